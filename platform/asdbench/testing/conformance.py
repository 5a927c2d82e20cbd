"""Tests that every system must pass, as a pytest class to inherit.

A subclass names its system and settings that make training quick::

    class TestMySystem(SystemConformance):
        system = "my-system"
        settings = {"epochs": 2, "hidden": 16}

Training and scoring run through the same functions as a real job, with a data home and a tiny data set
(:mod:`asdbench.testing.tiny`) of the class's own. A system without stages trains nothing: where a test is
about training, it checks the fit of the back end instead.
"""

import contextlib
import inspect
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from asdbench import registry
from asdbench.config import Choice, Range, Setting, SettingValue, checked, settings_of
from asdbench.data.audio import ChannelPolicy
from asdbench.data.loader import JobData
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
from asdbench.engine.training_step import TrainingStep, differentiate
from asdbench.errors import InputError
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.spec import SAMPLE_RATE_HZ
from asdbench.system import ClipBatch, Stage, System
from asdbench.testing.tiny import MACHINE_TYPES, write_tiny
from asdbench.testing.waiting import WithoutWaiting

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
    """Stand-in for the signal that ends a training."""


@dataclass(frozen=True)
class FinishedJob:
    """A scored job.

    Attributes
    ----------
    resolved : the job
    store : the store with its results
    components : scores of each component, by ``clip_id`` and ``use``
    fused : the anomaly ``score`` by ``clip_id`` and ``use``
    """

    resolved: ResolvedJob
    store: JobStore
    components: pl.DataFrame
    fused: pl.DataFrame

    @property
    def workspace(self) -> Workspace:
        """The workspace in which the data set is registered."""
        return self.resolved.data.workspace

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
    job: Job,
    workspace: Workspace,
    store: JobStore,
    *,
    runtime: Runtime | None = None,
    checkpoint_epochs: int = 5,
) -> FinishedJob:
    """Train and score a job with ``store`` and return its results."""
    resolved = ResolvedJob.from_workspace(job, workspace)
    for task in by_training([resolved]):
        for _, error in run_task(task, runtime or Runtime(), store, checkpoint_epochs=checkpoint_epochs):
            raise error
    return FinishedJob(resolved, store, components_of(resolved, store), anomaly_scores(resolved, store))


class Conformance:
    """Tests for every system, whether it trains or combines the scores of others.

    Inherit :class:`SystemConformance` or :class:`EnsembleConformance`, set ``system`` and ``settings``, and
    pytest collects all tests.

    Class attributes
    ----------------
    system : registered name
    settings : settings that make training quick, with at least two epochs
    alternatives : another allowed value of a setting, where the suite cannot find one
    settings_for : by the name of a setting, further settings that it needs to have an effect
    durations_s : shortest and longest duration of the clips of the tiny data set
    channels : 2 for a system that reads both microphones
    supplemental_clips : their number per machine type, for a system that trains with some
    """

    system: ClassVar[str]
    settings: ClassVar[Mapping[str, SettingValue]] = {}
    alternatives: ClassVar[Mapping[str, SettingValue]] = {}
    settings_for: ClassVar[Mapping[str, Mapping[str, SettingValue]]] = {}
    durations_s: ClassVar[tuple[float, float]] = (0.6, 1.5)
    channels: ClassVar[int] = 1
    supplemental_clips: ClassVar[int] = 0

    @classmethod
    def _policy(cls) -> ChannelPolicy | None:
        return "near" if cls.channels == 2 else None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test of each setting."""
        if "setting_name" in metafunc.fixturenames:
            metafunc.parametrize("setting_name", _settings(type(self).system))

    @pytest.fixture(scope="class")
    @classmethod
    def workspace(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
        """Give a workspace in which the tiny data set is registered."""
        base = tmp_path_factory.mktemp("conformance")
        workspace = Workspace.from_home(base / "home")
        folder = write_tiny(
            base / "clips",
            durations_s=cls.durations_s,
            supplemental_clips=cls.supplemental_clips,
            channels=cls.channels,
        )
        catalog.add(workspace, _DATA, folder, channels=cls._policy())
        with threads(1), cls.weights(workspace):
            yield workspace

    @classmethod
    def weights(cls, workspace: Workspace) -> contextlib.AbstractContextManager[None]:
        """Put the pretrained weights that the system reads into a workspace; none by default."""
        return contextlib.nullcontext()

    @pytest.fixture(scope="class")
    @classmethod
    def job(cls) -> Job:
        """Give the job that all tests start from."""
        return Job(cls.system, dict(cls.settings), _DATA, MACHINE_TYPES[0], seed=1)

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, job: Job, workspace: Workspace) -> FinishedJob:
        """Give the job trained and scored."""
        return run_job(job, workspace, JobStore.from_workspace(workspace))

    def test_silence_and_short_clips_have_finite_scores(
        self, finished: FinishedJob, job: Job, tmp_path: Path
    ) -> None:
        """Score digital silence and a clip shorter than a window."""
        folder = shutil.copytree(finished.resolved.data.root, tmp_path / "clips")
        short = np.arange(_SHORT_SAMPLES, dtype=np.int16)
        for name, wave in (("8888", np.zeros(SAMPLE_RATE_HZ, np.int16)), ("9999", short)):
            channels = np.repeat(wave[:, None], self.channels, axis=1)
            path = folder / job.machine_type / f"test/section_00_{name}.wav"
            soundfile.write(path, channels, SAMPLE_RATE_HZ)
        more = catalog.add(finished.workspace, "silence", folder, channels=self._policy())
        ids = more.clips.join(finished.resolved.data.clips, on="clip_id", how="anti")["clip_id"].to_list()
        again = run_job(replace(job, data="silence"), finished.workspace, finished.store)
        scored = again.fused.filter(pl.col("clip_id").is_in(ids))
        assert scored.height == 2
        assert np.isfinite(scored["score"].to_numpy()).all()

    def test_an_unknown_setting_is_refused(self, job: Job, workspace: Workspace) -> None:
        """Misspell a setting; the error names the nearest one."""
        names = _settings(self.system)
        wrong = names[0] + "x" if names else "no_such_setting"
        with pytest.raises(InputError, match=f"did you mean '{names[0]}'" if names else wrong):
            ResolvedJob.from_workspace(replace(job, settings={wrong: 1}), workspace)

    def test_every_setting_changes_scores_or_cost(
        self, finished: FinishedJob, job: Job, setting_name: str
    ) -> None:
        """Change one setting; scores or cost (steps and parameters) differ."""
        context = dict(self.settings) | dict(self.settings_for.get(setting_name, {}))
        before = run_job(replace(job, settings=context), finished.workspace, finished.store)
        value = self.alternatives.get(setting_name)
        if value is None:
            configured = before.resolved.configured
            value = _another(_setting(configured, setting_name), configured.values()[setting_name])
        after = run_job(
            replace(job, settings=context | {setting_name: value}), finished.workspace, finished.store
        )
        assert _outcome(after) != _outcome(before), (
            f"{setting_name}={value!r} changes neither scores nor cost"
        )

    def test_scores_do_not_depend_on_test_metadata(
        self, finished: FinishedJob, job: Job, tmp_path: Path
    ) -> None:
        """Permute the labels, file names, domains and attributes of test clips, and train again."""
        test_clips = finished.resolved.data.clips.filter(pl.col("split") == "test")
        folder = tmp_path / "permuted"
        shutil.copytree(finished.resolved.data.root, folder)
        for machine_type in MACHINE_TYPES:
            paths = test_clips.filter(pl.col("machine_type") == machine_type)["path"].sort().to_list()
            for path, content in zip(paths, np.roll(paths, 3), strict=True):
                shutil.copyfile(finished.resolved.data.root / content, folder / path)
        permuted = catalog.add(finished.workspace, "permuted", folder, channels=self._policy())
        moved = permuted.clips.join(test_clips, on="clip_id", suffix="_before")
        assert moved.height == test_clips.height
        assert (moved["path"] != moved["path_before"]).all()
        again = run_job(
            replace(job, data="permuted"),
            finished.workspace,
            JobStore(Storage.from_location(tmp_path / "jobs")),
        )
        _assert_same(again.components, finished.components)

    def test_the_same_seed_gives_the_same_scores(
        self, finished: FinishedJob, job: Job, tmp_path: Path
    ) -> None:
        """Train and score again; scores are equal to the bit."""
        again = run_job(job, finished.workspace, JobStore(Storage.from_location(tmp_path)))
        _assert_same(again.components, finished.components)

    def test_another_seed_gives_other_scores(self, finished: FinishedJob, job: Job) -> None:
        """Train with another seed; scores differ."""
        other = run_job(replace(job, seed=job.seed + 1), finished.workspace, finished.store)
        before, after = (scored.components.filter(pl.col("use") == "test") for scored in (finished, other))
        assert before["clip_id"].equals(after["clip_id"])
        assert not before.equals(after), (
            "training does not depend on the seed, or scores do not depend on training"
        )

    def test_it_is_documented(self) -> None:
        """Check that the citation is BibTeX and that class and module have docstrings."""
        system = registry.get(self.system)
        assert re.search(r"@\w+\{[^,{}]+,.*\}", system.citation, re.DOTALL), "citation must be BibTeX"
        assert inspect.getdoc(system) != inspect.getdoc(System), "the class needs a docstring of its own"
        module = inspect.getmodule(system)
        assert module is not None
        assert module.__doc__, "the module needs a docstring: idea, source, known departures"


_ON_BATCH = (
    "{} of a clip depends on the other clips of its batch; take no statistics over a batch, and give "
    "torch.cdist compute_mode='donot_use_mm_for_euclid_dist'"
)


class SystemConformance(Conformance):
    """Tests of a system that scores clips."""

    def test_scores_do_not_depend_on_batches(self, finished: FinishedJob) -> None:
        """Score clips in reverse order and one by one; scores and embeddings are equal up to rounding."""
        if finished.resolved.configured.is_transductive():
            pytest.skip("the system declares that its scores depend on other test clips")
        scorer, data = finished.restored(), finished.resolved.clips
        ids = finished.components["clip_id"].to_numpy()
        together = _scores(scorer, data.scoring_batches(ids))
        backwards = _scores(scorer, data.scoring_batches(ids[::-1]))
        alone = [_scores(scorer, data.scoring_batches([clip_id])) for clip_id in ids]
        assert together
        for name, values in together.items():
            tolerance = {"rtol": 1e-5, "atol": 1e-5 * np.abs(values).max(), "err_msg": _ON_BATCH.format(name)}
            np.testing.assert_allclose(backwards[name][::-1], values, **tolerance)
            np.testing.assert_allclose(np.concatenate([one[name] for one in alone]), values, **tolerance)

    def test_clip_scores_are_pooled_from_window_scores(self, finished: FinishedJob) -> None:
        """Score windows, if the system does; pooled over each clip they are the clip's score."""
        scorer, data = finished.restored(), finished.resolved.clips
        if not scorer.has_window_components():
            pytest.skip("the system scores no windows")
        with torch.inference_mode():
            for batch in data.scoring_batches(data.test_ids):
                of_windows, of_clips = scorer.window_components(batch), scorer.components(batch)
                assert of_windows.keys() == of_clips.keys(), "windows and clips have other components"
                for name, values in of_windows.items():
                    assert values.shape == (len(batch.windows),), f"{name} has not one score per window"
                for name, values in scorer.pooled_over_windows(batch, of_windows).items():
                    torch.testing.assert_close(
                        values, of_clips[name], msg=f"{name} is not pooled by window_pooling"
                    )

    def test_stored_state_gives_the_same_scores(self, finished: FinishedJob) -> None:
        """Score with a new system and the stored state; scores are equal to the bit.

        Of a cross-fitting, that is the state that scores test clips. Target-domain clips that are held out
        are scored by other fits.
        """
        clips = finished.resolved.clips
        stored = finished.components.filter(pl.col("use") != "hold-out-target")
        again = component_scores(finished.restored(), clips, device=torch.device("cpu"))
        if clips.n_folds:
            again, stored = (table.filter(pl.col("use") == "test") for table in (again, stored))
        _assert_same(again, stored)

    def test_another_seed_gives_other_scores(self, finished: FinishedJob, job: Job) -> None:
        """Train with another seed; scores differ. Without training, only torch's generator may do that."""
        if _trains(finished):
            super().test_another_seed_gives_other_scores(finished, job)
        else:
            _assert_seed_acts_through_torch(finished.resolved)

    def test_the_first_stage_lowers_its_loss(self, finished: FinishedJob) -> None:
        """Repeat the first update on one batch with the same random numbers in each step."""
        if not _trains(finished):
            assert (finished.training_record.steps, finished.training_record.curve) == (0, ())
            return
        data, runtime = finished.resolved.clips, Runtime()
        with torch.random.fork_rng(devices=[]):
            training.seed_initial_weights(finished.resolved.job.seed)
            system = finished.resolved.build_trained(data.facts).train()
            stage = system.stages(data.steps_per_epoch)[0]
            batch = data.batch(0)
            losses = []
            for _ in range(_OVERFITTING_STEPS):
                for index, update in enumerate(stage.updates):
                    training.seed_torch(0, index)
                    total, _ = total_loss(system(batch, update.name, torch.zeros(())), runtime)
                    update.optimizer.zero_grad()
                    total.backward()  # type: ignore[no-untyped-call]
                    update.optimizer.step()
                    if update.scheduler is not None:
                        update.scheduler.step()
                    if index == 0:
                        losses.append(float(total.detach()))
        assert losses[-1] < losses[0]

    def test_a_training_step_does_not_wait_for_the_device(self, finished: FinishedJob) -> None:
        """Compute losses and gradients of each update; nothing reads a value or selects rows by a mask."""
        data = finished.resolved.clips
        with torch.random.fork_rng(devices=[]):
            training.seed_initial_weights(finished.resolved.job.seed)
            system = finished.resolved.build_trained(data.facts).train()
            for stage in system.stages(data.steps_per_epoch):
                step = TrainingStep(stage, _batch_of(stage, data), 0, 1, 0)
                for update in stage.updates:
                    where = f"{type(system).__name__}.forward (update {update.name!r})"
                    with WithoutWaiting(where):
                        differentiate(system, system, update.name, step, Runtime())

    def test_an_interrupted_training_resumes(self, finished: FinishedJob, job: Job, tmp_path: Path) -> None:
        """Interrupt the training after every epoch, or else the back end's fit; the result is the same."""
        if not _trains(finished):
            _assert_an_interrupted_fit_is_repeated(finished, job, JobStore(Storage.from_location(tmp_path)))
            return
        curve = finished.training_record.curve
        assert len(curve) >= 2, "the quick settings must train for at least two epochs"
        store, reached, interruptions = JobStore(Storage.from_location(tmp_path)), set(), 0

        def report(progress: Report) -> None:
            assert isinstance(progress, TrainingProgress)
            if progress.step not in reached:
                reached.add(progress.step)
                raise _Interruption

        while True:
            try:
                resumed = run_job(
                    job, finished.workspace, store, runtime=Runtime(report=report), checkpoint_epochs=1
                )
                break
            except _Interruption:
                interruptions += 1
        assert interruptions == len(curve)
        assert resumed.training_record.curve == curve
        _assert_same(resumed.components, finished.components)


class EnsembleConformance(Conformance):
    """Tests of a system that combines the scores of its members."""

    def test_scores_follow_from_the_members(self, finished: FinishedJob) -> None:
        """Run the members on their own; scores are the same."""
        for member in finished.resolved.members:
            alone = run_job(member.job, finished.workspace, finished.store)
            assert alone.resolved.scoring_key == member.scoring_key
        again = FinishedJob(
            finished.resolved,
            finished.store,
            components_of(finished.resolved, finished.store),
            anomaly_scores(finished.resolved, finished.store),
        )
        _assert_same(again.components, finished.components)


def _batch_of(stage: Stage, data: JobData) -> ClipBatch:
    """Return a batch of a stage, with one pseudo-label for all clips where it asks for some."""
    drawn = data.with_plan(stage.plan)
    if stage.pseudo_labels:
        n_clips = sum(batch.n_clips for batch in drawn.pseudo_label_batches())
        drawn = drawn.with_pseudo_labels(np.zeros(n_clips, np.int64))
    return drawn.batch(0)


def _trains(finished: FinishedJob) -> bool:
    """Return whether the system, or the one that it scores, has a stage of training."""
    data = finished.resolved.clips
    with torch.random.fork_rng(devices=[]):
        return bool(finished.resolved.build_trained(data.facts).stages(data.steps_per_epoch))


def _assert_seed_acts_through_torch(resolved: ResolvedJob) -> None:
    """Fit on the same clips with two seeds: scores differ only if the fit uses torch's generator."""
    (first, state, drew), (second, other_state, _) = (_fitted(resolved, fit_seed) for fit_seed in (1, 2))
    assert not torch.equal(state, other_state), (
        "fit_backend seeds torch's generator; leave that to the platform, which seeds it by the job's seed"
    )
    if not drew:
        for name, values in first.items():
            assert np.array_equal(values, second[name]), (
                f"{name} is random, but not through torch's generator, which the platform seeds"
            )


def _fitted(
    resolved: ResolvedJob, fit_seed: int
) -> tuple[dict[str, NDArray[np.float64]], torch.Tensor, bool]:
    """Fit with a seed; return the test scores, the generator's last state, and whether the fit used it."""
    data = resolved.clips
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        training.seed_initial_weights(resolved.job.seed)
        scorer = resolved.build_scorer(resolved.build_trained(data.facts)).eval()
        training.seed_back_end(fit_seed)
        initial = torch.get_rng_state()
        scorer.fit_backend(data.backend_batches())
        state = torch.get_rng_state()
        return _scores(scorer, data.scoring_batches(data.test_ids)), state, not torch.equal(state, initial)


def _assert_an_interrupted_fit_is_repeated(finished: FinishedJob, job: Job, store: JobStore) -> None:
    """Interrupt the fit of the back end after its first batch, and run the job again."""
    resolved = ResolvedJob.from_workspace(job, finished.workspace)
    (task,) = by_training([resolved])

    def interrupted() -> Iterator[ClipBatch]:
        yield next(finished.resolved.clips.backend_batches())
        raise _Interruption

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(_Interruption):
        patch.setattr(resolved.clips, "backend_batches", interrupted)
        run_task(task, Runtime(), store)
    again = run_job(job, finished.workspace, store)
    _assert_same(again.components, finished.components)


def _scores(scorer: System, batches: Iterator[ClipBatch]) -> dict[str, NDArray[np.float64]]:
    """Return the component scores by name, and ``embeddings`` if there are any, in the order of the clips."""
    parts: dict[str, list[torch.Tensor]] = {}
    with torch.inference_mode():
        for batch in batches:
            for name, values in scorer.components(batch).items():
                parts.setdefault(name, []).append(values)
            embeddings = scorer.embeddings(batch)
            if embeddings is not None:
                assert embeddings.shape[:1] == (batch.n_clips,), "embeddings must return one vector per clip"
                assert embeddings.isfinite().all(), "embeddings must be finite"
                parts.setdefault("embeddings", []).append(embeddings)
    return {name: torch.cat(values).double().numpy() for name, values in parts.items()}


def _assert_same(actual: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Fail unless two component tables are equal to the bit."""
    assert actual["clip_id"].equals(expected["clip_id"])
    assert actual.columns == expected.columns
    for name in set(expected.columns) - {"clip_id", "use"}:
        differing = int((actual[name].to_numpy() != expected[name].to_numpy()).sum())
        assert not differing, f"{name} differs for {differing} of {expected.height} clips"


def _outcome(finished: FinishedJob) -> tuple[list[float], list[tuple[int, int]]]:
    """Return the scores, and the cost as steps and parameters: every setting must change one of them."""
    cost = [(record.steps, record.parameters) for record in finished.training_records.values()]
    return finished.fused["score"].to_list(), cost


def _settings(system: str) -> list[str]:
    configured = registry.configure(system)
    return list(configured.own_values() if configured.members else configured.values())


def _setting(configured: registry.Configured, name: str) -> Setting:
    known = settings_of(configured.system.Config)
    if configured.trained is not None:
        known = settings_of(configured.trained.system.Config) | known
    return known[name]


def _another(setting: Setting, value: SettingValue) -> SettingValue:
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
    current = value if isinstance(value, int | float) else 0
    for candidate in candidates:
        inside = not isinstance(setting.domain, Range) or candidate <= max(setting.domain.high, current)
        with contextlib.suppress(InputError):
            if inside and candidate != value:
                return checked({setting.name: setting}, setting.name, candidate, owner="it")
    pytest.fail(f"add another value of {setting.name}, now {value!r}, to 'alternatives' of the test class")
