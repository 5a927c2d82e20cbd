"""The function that the trials of a search run, on the driver's node and without a CPU of its own.

A trial asks the scheduler for the tasks of all its machine types at once, judges each machine type as soon as
its tasks are done, and reports the score over those that are finished. What a task is and how it is judged is
the driver's: this module does not know it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import ray
from ray import tune

from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.errors import InfrastructureError, InputError

_RELEASE_S = 1.5  # Tune waits 2 s for a trial that it stops


class TrialConfig(TypedDict):
    """What a trial is started with.

    Attributes
    ----------
    study : key of its study
    number : of the trial in the study
    parameters : drawn values by setting
    """

    study: str
    number: int
    parameters: Mapping[str, object]


@dataclass(frozen=True)
class Judgment:
    """The judgment of a machine type of a trial.

    Attributes
    ----------
    score : official score over this machine type and those before it
    machine_type : its name
    metrics : its metrics
    """

    score: float
    machine_type: str
    metrics: Mapping[str, float]


class TrialWork(Protocol):
    """What a trial does; the driver's, sent to the trial's process."""

    def requests(self, config: TrialConfig) -> Sequence[Sequence[TaskRequest]]:
        """Return the tasks of each machine type; raise `InputError` for settings that do not go together."""

    def judge(self, config: TrialConfig) -> Iterator[Judgment]:
        """Yield the judgment of each machine type; the next one is asked for when its tasks are done."""


Report = dict[str, Any]


def run_trial(config: TrialConfig, *, work: TrialWork, scheduler: Any) -> None:
    """Run a trial and report its score after each machine type.

    Raises
    ------
    InfrastructureError
        A task failed by the fault of the cluster; Ray Tune runs the trial again.
    """
    owner = tune.get_context().get_trial_id()
    try:
        for report in _reports(config, str(owner), work, scheduler):
            tune.report(report)
    finally:
        with contextlib.suppress(Exception):  # the driver releases it, too
            ray.get(scheduler.release.remote(owner), timeout=_RELEASE_S)


def _reports(config: TrialConfig, owner: str, work: TrialWork, scheduler: Any) -> Iterator[Report]:
    """Yield what to report: ``score``, ``types`` (how many), and of the last one ``judged``, or ``failed``.

    A trial that fails by its settings has the score 0, so that the search avoids them.
    """
    types = 0
    try:
        rungs = work.requests(config)
        pending = [scheduler.run.remote(owner, list(requests)) for requests in rungs]
        judgments = work.judge(config)
        for types, ref in enumerate(pending, start=1):
            _check(ray.get(ref))
            judgment = next(judgments)
            judged = (judgment.machine_type, dict(judgment.metrics))
            yield {"score": judgment.score, "types": types, "judged": judged, "failed": None}
    except InputError as error:
        yield {"score": 0.0, "types": max(types, 1), "judged": None, "failed": str(error)}


def _check(outcomes: Sequence[Outcome]) -> None:
    """Raise the error of the first task that failed.

    A task that is given up because memory was used up on several nodes fails by its settings.
    """
    for outcome in outcomes:
        if outcome.kind != "ok":
            message = outcome.failures[0].message if outcome.failures else outcome.message
            is_by_settings = outcome.kind == "user" or outcome.is_memory
            raise (InputError if is_by_settings else InfrastructureError)(message)
