"""Builds the features that tasks wait for, each once: on any node, or where that fails on the driver's."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from asdbench.cluster.attempts import Attempts
from asdbench.cluster.cluster_nodes import ClusterNodes
from asdbench.cluster.launcher import Launcher
from asdbench.cluster.messages import FeatureRequest, Outcome
from asdbench.engine.events import TaskStarted

_ATTEMPTS = 5
_ON_ANY_NODE = 3  # attempts, until the driver's node has to do it


class FeatureBuilds:
    """The features of a run that are built or being built.

    Parameters
    ----------
    launcher, nodes, attempts : of the run
    on_retry : called with the features, for people, and the outcome that another attempt follows
    """

    def __init__(
        self,
        launcher: Launcher,
        nodes: ClusterNodes,
        attempts: Attempts,
        on_retry: Callable[[str, Outcome], None],
    ) -> None:
        self._launcher = launcher
        self._nodes = nodes
        self._attempts = attempts
        self._on_retry = on_retry
        self._builds: dict[str, asyncio.Future[Outcome]] = {}
        self._began: dict[str, TaskStarted] = {}
        self._driver_builds = asyncio.Semaphore(1)  # each has all threads of the driver's node

    @property
    def n_under_way(self) -> int:
        """Number of features that are being built."""
        return sum(not build.done() for build in self._builds.values())

    def note_start(self, event: TaskStarted) -> bool:
        """Note where features are built; return whether the event is of features."""
        if event.task in self._builds:
            self._began[event.task] = event
        return event.task in self._builds

    def has_begun(self, key: str) -> bool:
        """Return whether an attempt at features has said where it runs."""
        return key in self._began

    def are_built(self, features: Iterable[FeatureRequest]) -> bool:
        """Return whether these features are built."""
        builds = [self._builds.get(feature.key) for feature in features]
        return all(build is not None and build.done() and _is_ok(build) for build in builds)

    async def build(self, features: Iterable[FeatureRequest]) -> list[Outcome]:
        """Build those features that are not built, and return how that ended."""
        return list(await asyncio.gather(*map(self._build_of, features)))

    def copies(self, features: Sequence[FeatureRequest]) -> list[bytes]:
        """Return where features that are built are copied from, each once."""
        keys = dict.fromkeys(feature.key for feature in features)
        return [self._builds[key].result().content for key in keys]

    def _build_of(self, feature: FeatureRequest) -> "asyncio.Future[Outcome]":
        build = self._builds.get(feature.key)
        if build is None or (build.done() and not _is_ok(build)):
            build = self._builds[feature.key] = asyncio.ensure_future(self._build(feature))
        return build

    async def _build(self, feature: FeatureRequest) -> Outcome:
        on_driver, avoid = feature.on_driver, set[str]()
        for attempt in range(1, _ATTEMPTS + 1):
            outcome = await self._attempt(feature, avoid, on_driver=on_driver)
            if outcome.kind in ("ok", "user"):
                break
            if outcome.kind == "misplaced":
                on_driver = True
                continue
            if attempt < _ATTEMPTS:
                self._on_retry(feature.label, outcome)
            if outcome.node:
                avoid.add(outcome.node)
            on_driver = on_driver or attempt >= _ON_ANY_NODE
        return outcome

    async def _attempt(self, feature: FeatureRequest, avoid: set[str], *, on_driver: bool) -> Outcome:
        async with self._driver_builds if on_driver else contextlib.nullcontext():
            excluded = set() if on_driver else self._nodes.excluded(avoid)
            build = self._launcher.build(feature, self._nodes.shape, excluded, on_driver=on_driver)
            outcome = await self._attempts.outcome(feature.key, build, excluded)
        place = self._began.pop(feature.key, None)
        if outcome.node or place is None:
            return outcome
        return replace(outcome, node=place.node, host=place.host)  # a process that died does not say it


def _is_ok(ended: "asyncio.Future[Outcome]") -> bool:
    return ended.exception() is None and ended.result().kind == "ok"
