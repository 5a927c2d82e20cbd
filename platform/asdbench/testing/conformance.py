"""What holds for every system, as a pytest class to inherit.

A subclass names its system and settings that make it quick::

    class TestMySystem(SystemConformance):
        system = "my-system"
        settings = {"epochs": 2, "hidden": 16}

Training and scoring run through the same functions as a real job, with a data home and a tiny data set
(:mod:`asdbench.testing.tiny`) of the class's own.
"""

import contextlib
import inspect
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from asdbench import registry
from asdbench.config import Choice, Range, Setting, checked, settings_of
from asdbench.data.sets import catalog
from asdbench.engine import training
from asdbench.engine.distributed import total_loss
from asdbench.engine.evaluation import anomaly_scores, components_of, training_records
from asdbench.engine.events import Report, TrainingProgress
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, by_training
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.engine.scoring import component_scores
from asdbench.engine.state import restored
from asdbench.engine.task_records import TrainingRecord
from asdbench.errors import InputError
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.spec import SAMPLE_RATE_HZ
from asdbench.system import ClipBatch, System
from asdbench.testing.tiny import MACHINE_TYPES, write_tiny

_DATA = "tiny"
_SHORT_SAMPLES = 300
_OVERFITTING_STEPS = 20


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Interruption(BaseException):
    """Stands for the signal that ends a training."""


@dataclass(frozen=True)
class FinishedJob:
    """A scored job.

    Attributes
    ----------
    prepared : the job
    store : where its results are
    components : scores of each component, by ``clip_id`` and ``use``
    fused : the anomaly ``score`` by ``clip_id`` and ``use``
    """

    resolved: ResolvedJob
    store: JobStore
    components: pl.DataFrame
    fused: pl.DataFrame

    @property
    def training_record(self) -> TrainingRecord:
        """What the store says about the training, the first of an ensemble's."""
        return next(iter(self.training_records.values()))

    @property
    def training_records(self) -> dict[str, TrainingRecord]:
        """What the store says about the trainings, by the trained system's name."""
        return training_records(self.resolved, self.store)

    def restored(self) -> System:
        """Return the scoring system with the stored state of training and back end."""
        return restored(self.resolved, self.store)


def run_job(
    job: Job, store: JobStore, *, runtime: Runtime | None = None, checkpoint_epochs: int = 5
) -> FinishedJob:
    """Bring a job to scores in ``store`` and return them."""
    resolved = ResolvedJob.from_workspace(job, Workspace.from_environment())
    for task in by_training([resolved]):
        for _, error in run_task(task, runtime or Runtime(), store, checkpoint_epochs=checkpoint_epochs):
            raise error
    return FinishedJob(resolved, store, components_of(resolved, store), anomaly_scores(resolved, store))


class Conformance:
    """What holds for every system, whether it trains or joins the scores of others.

    Inherit :class:`SystemConformance` or :class:`EnsembleConformance`, set ``system`` and ``settings``, and
    pytest collects all tests.

    Class attributes
    ----------------
    system : registered name
    settings : over the defaults; quick, of at least two epochs
    alternatives : another value of a setting where the suite cannot find one that is allowed
    settings_for : further settings without which a setting has no effect, by its name
    durations_s : shortest and longest clip of the tiny data set
    """

    system: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {}
    alternatives: ClassVar[Mapping[str, Any]] = {}
    settings_for: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    durations_s: ClassVar[tuple[float, float]] = (0.6, 1.5)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test of each setting."""
        if "setting_name" in metafunc.fixturenames:
            metafunc.parametrize("setting_name", _settings(type(self).system))

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        """Give the folder of the tiny data set, registered in a data home of its own."""
        base = tmp_path_factory.mktemp("conformance")
        folder = write_tiny(base / "clips", durations_s=cls.durations_s)
        with pytest.MonkeyPatch.context() as patch, threads(1):
            patch.setenv("ASDBENCH_HOME", str(base / "home"))
            catalog.add(Workspace.from_environment(), _DATA, folder)
            yield folder

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls, folder: Path) -> Job:
        """Give the job that all tests start from."""
        return Job(cls.system, dict(cls.settings), _DATA, MACHINE_TYPES[0], seed=1)

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, job: Job) -> FinishedJob:
        """Give the job trained and scored."""
        return run_job(job, JobStore.from_workspace(Workspace.from_environment()))

    def test_silence_and_short_clips_have_finite_scores(
        self, bench: FinishedJob, job: Job, tmp_path: Path
    ) -> None:
        """Digital silence and a clip shorter than a window have scores."""
        folder = shutil.copytree(bench.resolved.data.root, tmp_path / "clips")
        short = np.arange(_SHORT_SAMPLES, dtype=np.int16)
        for name, wave in (("8888", np.zeros(SAMPLE_RATE_HZ, np.int16)), ("9999", short)):
            soundfile.write(folder / job.machine_type / f"test/section_00_{name}.wav", wave, SAMPLE_RATE_HZ)
        more = catalog.add(Workspace.from_environment(), "silence", folder)
        ids = more.clips.join(bench.resolved.data.clips, on="clip_id", how="anti")["clip_id"].to_list()
        found = run_job(replace(job, data="silence"), bench.store)
        scored = found.fused.filter(pl.col("clip_id").is_in(ids))
        assert scored.height == 2
        assert np.isfinite(scored["score"].to_numpy()).all()

    def test_an_unknown_setting_is_refused(self, job: Job) -> None:
        """The error names the nearest setting."""
        names = _settings(self.system)
        wrong = names[0] + "x" if names else "no_such_setting"
        with pytest.raises(InputError, match=f"did you mean '{names[0]}'" if names else wrong):
            ResolvedJob.from_workspace(replace(job, settings={wrong: 1}), Workspace.from_environment())

    def test_every_setting_changes_scores_or_cost(
        self, bench: FinishedJob, job: Job, setting_name: str
    ) -> None:
        """An option that does nothing fails; cost is steps and parameters."""
        context = dict(self.settings) | dict(self.settings_for.get(setting_name, {}))
        before = run_job(replace(job, settings=context), bench.store)
        value = self.alternatives.get(setting_name)
        if value is None:
            configured = before.resolved.configured
            value = _another(_setting(configured, setting_name), configured.values()[setting_name])
        after = run_job(replace(job, settings=context | {setting_name: value}), bench.store)
        assert _outcome(after) != _outcome(before), (
            f"{setting_name}={value!r} changes neither scores nor cost"
        )

    def test_what_is_said_of_test_clips_changes_nothing(
        self, bench: FinishedJob, job: Job, tmp_path: Path
    ) -> None:
        """Their labels, file names, domains and attributes are dealt out anew; training is done again."""
        told = bench.resolved.data.clips.filter(pl.col("split") == "test")
        folder = tmp_path / "permuted"
        shutil.copytree(bench.resolved.data.root, folder)
        for machine_type in MACHINE_TYPES:
            paths = told.filter(pl.col("machine_type") == machine_type)["path"].sort().to_list()
            for path, content in zip(paths, np.roll(paths, 3), strict=True):
                shutil.copyfile(bench.resolved.data.root / content, folder / path)
        permuted = catalog.add(Workspace.from_environment(), "permuted", folder)
        moved = permuted.clips.join(told, on="clip_id", suffix="_before")
        assert moved.height == told.height
        assert (moved["path"] != moved["path_before"]).all()
        again = run_job(replace(job, data="permuted"), JobStore(Storage.from_location(tmp_path / "jobs")))
        _assert_same(again.components, bench.components)

    def test_the_same_seed_gives_the_same_scores(self, bench: FinishedJob, job: Job, tmp_path: Path) -> None:
        """To the bit, when all is done again."""
        again = run_job(job, JobStore(Storage.from_location(tmp_path)))
        _assert_same(again.components, bench.components)

    def test_another_seed_gives_other_scores(self, bench: FinishedJob, job: Job) -> None:
        """The seed reaches the training."""
        other = run_job(replace(job, seed=job.seed + 1), bench.store)
        before, after = (found.components.filter(pl.col("use") == "test") for found in (bench, other))
        assert before["clip_id"].equals(after["clip_id"])
        assert not before.equals(after), "training does not depend on the seed, or scores not on training"

    def test_it_says_what_it_is(self) -> None:
        """The citation is BibTeX; class and module have docstrings."""
        found = registry.get(self.system)
        assert re.search(r"@\w+\{[^,{}]+,.*\}", found.citation, re.DOTALL), "citation must be BibTeX"
        assert inspect.getdoc(found) != inspect.getdoc(System), "the class needs a docstring of its own"
        module = inspect.getmodule(found)
        assert module is not None
        assert module.__doc__, "the module needs a docstring: idea, source, known departures"


class SystemConformance(Conformance):
    """The suite of a system that scores clips."""

    def test_scores_do_not_depend_on_batches(self, bench: FinishedJob) -> None:
        """Backwards and one by one, clips get the scores that they get together, to rounding."""
        scorer, data = bench.restored(), bench.resolved.clips
        ids = bench.components["clip_id"].to_numpy()
        together = _scores(scorer, data.scoring_batches(ids))
        backwards = _scores(scorer, data.scoring_batches(ids[::-1]))
        alone = [_scores(scorer, data.scoring_batches([clip_id])) for clip_id in ids]
        assert together
        for name, values in together.items():
            tolerance = {"rtol": 1e-5, "atol": 1e-5 * np.abs(values).max()}
            np.testing.assert_allclose(backwards[name][::-1], values, **tolerance)
            np.testing.assert_allclose(np.concatenate([one[name] for one in alone]), values, **tolerance)

    def test_stored_state_gives_the_same_scores(self, bench: FinishedJob) -> None:
        """A new system with the stored state scores equally to the bit."""
        again = component_scores(bench.restored(), bench.resolved.clips, device=torch.device("cpu"))
        _assert_same(again, bench.components)

    def test_the_first_stage_lowers_its_loss(self, bench: FinishedJob) -> None:
        """Its first update, on one batch that stays the same, with the same randomness in each step."""
        data, runtime = bench.resolved.clips, Runtime()
        with torch.random.fork_rng(devices=[]):
            training.seed_initial_weights(bench.resolved.job.seed)
            system = bench.resolved.build_trained(data.facts).train()
            stage = system.stages(data.steps_per_epoch)[0]
            batch = data.batch(0)
            losses = []
            for _ in range(_OVERFITTING_STEPS):
                for place, update in enumerate(stage.updates):
                    training.seed_torch(0, place)
                    total, _ = total_loss(system(batch, update.name, 0.0), runtime)
                    update.optimizer.zero_grad()
                    total.backward()  # type: ignore[no-untyped-call]
                    update.optimizer.step()
                    if update.scheduler is not None:
                        update.scheduler.step()
                    if place == 0:
                        losses.append(float(total.detach()))
        assert losses[-1] < losses[0]

    def test_an_interrupted_training_goes_on(self, bench: FinishedJob, job: Job, tmp_path: Path) -> None:
        """The training is broken off after every epoch, before that epoch is in the checkpoint."""
        curve = bench.training_record.curve
        assert len(curve) >= 2, "the quick settings must train for at least two epochs"
        store, reached, interruptions = JobStore(Storage.from_location(tmp_path)), set(), 0

        def report(progress: Report) -> None:
            assert isinstance(progress, TrainingProgress)
            if progress.step not in reached:
                reached.add(progress.step)
                raise _Interruption

        while True:
            try:
                resumed = run_job(job, store, runtime=Runtime(report=report), checkpoint_epochs=1)
                break
            except _Interruption:
                interruptions += 1
        assert interruptions == len(curve)
        assert resumed.training_record.curve == curve
        _assert_same(resumed.components, bench.components)


class EnsembleConformance(Conformance):
    """The suite of a system that joins the scores of its members."""

    def test_scores_follow_from_the_members(self, bench: FinishedJob) -> None:
        """They are the same when the members have been run on their own."""
        for member in bench.resolved.members:
            alone = run_job(member.job, bench.store)
            assert alone.resolved.scoring_key == member.scoring_key
        again = FinishedJob(
            bench.resolved,
            bench.store,
            components_of(bench.resolved, bench.store),
            anomaly_scores(bench.resolved, bench.store),
        )
        _assert_same(again.components, bench.components)


def _scores(scorer: System, batches: Iterator[ClipBatch]) -> dict[str, Any]:
    """Return the component scores, by name and in the order of the clips."""
    found: dict[str, list[torch.Tensor]] = {}
    with torch.inference_mode():
        for batch in batches:
            for name, values in scorer.components(batch).items():
                found.setdefault(name, []).append(values)
    return {name: torch.cat(values).double().numpy() for name, values in found.items()}


def _assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Fail unless two component tables are equal to the bit."""
    assert found["clip_id"].equals(expected["clip_id"])
    assert found.columns == expected.columns
    for name in set(expected.columns) - {"clip_id", "use"}:
        differing = int((found[name].to_numpy() != expected[name].to_numpy()).sum())
        assert not differing, f"{name} differs for {differing} of {expected.height} clips"


def _outcome(bench: FinishedJob) -> tuple[Any, ...]:
    """Return what a setting can change: scores, and cost as steps and parameters."""
    cost = [(record.steps, record.parameters) for record in bench.training_records.values()]
    return bench.fused["score"].to_list(), cost


def _settings(system: str) -> list[str]:
    configured = registry.configure(system)
    return list(configured.own_values() if configured.members else configured.values())


def _setting(configured: registry.Configured, name: str) -> Setting:
    known = settings_of(configured.system.Config)
    if configured.trained is not None:
        known = settings_of(configured.trained.system.Config) | known
    return known[name]


def _another(setting: Setting, value: Any) -> Any:
    """Return an allowed value of ``setting`` that is not ``value``; one that keeps the training short."""
    if isinstance(setting.domain, Choice):
        return next(option for option in setting.domain.options if option != value)
    if isinstance(value, bool):
        return not value
    candidates: list[float] = []
    if isinstance(value, int):
        candidates = [value * 2, value // 2] if value >= 16 else [value + 1, value - 1]
    elif isinstance(value, float) and value != 0:
        candidates = [value * 2, value / 2]
    elif isinstance(setting.domain, Range):
        candidates = [setting.domain.high, setting.domain.low]
    elif value == 0:
        candidates = [0.5]
    for candidate in candidates:
        inside = not isinstance(setting.domain, Range) or candidate <= max(setting.domain.high, value or 0)
        with contextlib.suppress(InputError):
            if inside and candidate != value:
                return checked({setting.name: setting}, setting.name, candidate, owner="it")
    pytest.fail(f"give another value of {setting.name}, now {value!r}, in the test class's 'alternatives'")
