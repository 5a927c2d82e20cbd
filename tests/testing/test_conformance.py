"""The conformance suite passes a sound system and catches what it is for."""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from asdbench import registry
from asdbench.data.loader import JobData
from asdbench.data.sets import catalog
from asdbench.driver.export import export_model
from asdbench.engine import run_task as run_module
from asdbench.engine.detector import Detector
from asdbench.engine.evaluation import evaluate, judged_scores
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, by_training
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.testing import SystemConformance, write_tiny
from asdbench.testing.conformance import FinishedJob, run_job, threads

SOUND = '''
"""A linear predictor of frames."""

import torch
from dataclasses import dataclass
from asdbench.config import Choice, Range, tunable
from asdbench.spec import MelSpec
from asdbench.system import BatchPlan, Losses, Mean, InputSpec, Stage, System, Update


@dataclass(frozen=True)
class Config:
    epochs: int = tunable(3)
    power: float = tunable(2.0, Range(1.0, 3.0), affects="scoring", maximum=3.0)


class Theirs(System):
    """It has a docstring."""

    Config = Config
    citation = "@misc{theirs2023, title = {Theirs}}"

    def __init__(self, config, facts):
        super().__init__(config, facts)
        self.linear = torch.nn.Linear(8, 8)
        self.register_buffer("mean", torch.zeros(8))

    @classmethod
    def input_spec(cls, config):
        mel = MelSpec(hop_samples=512, n_mels=8)
        return InputSpec(mel, window_frames=2, window_hop_frames=2, standardize=True)

    @classmethod
    def batch_plan(cls, config):
        return BatchPlan(16, "every-window")

    def stages(self, steps_per_epoch):
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-2)
        return [Stage("one", [Update("all", optimizer)], epochs=self.config.epochs)]

    def forward(self, batch, update, progress):
        error = self.linear(batch.windows[:, 0]) - batch.windows[:, 1]
        return Losses({"all": Mean.from_values(error.square())})

    def fit_backend(self, batches):
        errors = [self.linear(b.windows[:, 0]) - b.windows[:, 1] for b in batches]
        self.mean = torch.cat(errors).mean(0)

    def components(self, batch):
        error = self.linear(batch.windows[:, 0]) - batch.windows[:, 1] - self.mean
        score = error.abs().pow(self.config.power).mean(1)
        rows = torch.bincount(batch.clip, minlength=batch.n_clips)
        return {"theirs": torch.zeros(batch.n_clips).index_add_(0, batch.clip, score) / rows}
'''


class Suite(SystemConformance):
    system = "theirs"


Build = Callable[..., FinishedJob]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Give a function that installs the system with replacements in its code and runs a job of it."""
    (tmp_path / "code").mkdir()
    entry = importlib.metadata.EntryPoint("theirs", "their_suite_system:Theirs", registry.ENTRY_POINTS)
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [entry] if group == registry.ENTRY_POINTS else []
    )
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    registry.get.cache_clear()
    registry.source_hash.cache_clear()

    def function(*replacements: tuple[str, str], **tiny: Any) -> FinishedJob:
        text = SOUND
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "code/their_suite_system.py").write_text(text)
        importlib.invalidate_caches()
        workspace = Workspace.from_home(tmp_path / "home")
        policy = "near" if tiny.get("channels") == 2 else None
        catalog.add(workspace, "tiny", write_tiny(tmp_path / "clips", **tiny), channels=policy)
        return run_job(
            Job("theirs", {}, "tiny", "fan", seed=1), workspace, JobStore.from_workspace(workspace)
        )

    with threads(1):
        yield function
    sys.modules.pop("their_suite_system", None)
    registry.get.cache_clear()
    registry.source_hash.cache_clear()


def checks_of(
    bench: FinishedJob, folder: Path, suite: SystemConformance | None = None
) -> dict[str, Callable[[], None]]:
    """Return every test of the suite, to be called; settings by their names."""
    suite, job = suite or Suite(), bench.resolved.job
    place = iter(folder / str(k) for k in range(99))

    def fresh() -> Path:
        path = next(place)
        path.mkdir()
        return path

    return {
        "batches": lambda: suite.test_scores_do_not_depend_on_batches(bench),
        "state": lambda: suite.test_stored_state_gives_the_same_scores(bench),
        "silence": lambda: suite.test_silence_and_short_clips_have_finite_scores(bench, job, fresh()),
        "learns": lambda: suite.test_the_first_stage_lowers_its_loss(bench),
        "unknown": lambda: suite.test_an_unknown_setting_is_refused(job, bench.workspace),
        "epochs": lambda: suite.test_every_setting_changes_scores_or_cost(bench, job, "epochs"),
        "power": lambda: suite.test_every_setting_changes_scores_or_cost(bench, job, "power"),
        "told": lambda: suite.test_scores_do_not_depend_on_test_metadata(bench, job, fresh()),
        "same seed": lambda: suite.test_the_same_seed_gives_the_same_scores(bench, job, fresh()),
        "other seed": lambda: suite.test_another_seed_gives_other_scores(bench, job),
        "waits": lambda: suite.test_a_training_step_does_not_wait_for_the_device(bench),
        "resumed": lambda: suite.test_an_interrupted_training_resumes(bench, job, fresh()),
        "said": suite.test_it_is_documented,
    }


FOR_ALL_TYPES = [
    ('    citation = "@misc', '    scope = "data set"\n    citation = "@misc'),
    (
        '        self.register_buffer("mean"',
        "        types, groups = len(facts.machine_types), facts.groups\n"
        '        self.register_buffer("shares", torch.zeros(types, groups))\n'
        '        self.register_buffer("mean"',
    ),
]


def test_one_training_for_all_machine_types(build: Build, tmp_path: Path) -> None:
    finished = build(*FOR_ALL_TYPES)
    fan, job, store = finished.resolved, finished.resolved.job, finished.store
    valve = ResolvedJob.from_workspace(replace(job, machine_type="valve"), finished.workspace)
    assert valve.training_key == fan.training_key
    assert valve.scoring_key != fan.scoring_key
    (task,) = by_training([fan, valve])
    assert (task.label, task.scored_label) == ("all types theirs seed 1",) * 2
    assert [name for name, _ in fan.training_description["clips"]] == ["fan", "valve"]
    assert store.is_trained(valve)
    assert not store.is_scored(valve)
    trained = store.training_record(fan.training_key)
    assert not run_task(task, Runtime(), store)
    assert store.training_record(valve.training_key) == trained  # not trained again
    results = [evaluate(resolved, store) for resolved in (fan, valve)]
    assert sum(result.record.training_seconds for result in results) == pytest.approx(trained.seconds)
    export_model([fan, valve], store, tmp_path / "detector")
    detector = Detector.load(tmp_path / "detector")
    for resolved in (fan, valve):
        scores = judged_scores(resolved, store)
        for path, score in scores.select("path", "score").iter_rows():
            samples, rate = soundfile.read(resolved.data.root / path, dtype="int16")
            detection = detector.score(samples, rate, machine=resolved.machine_type)
            assert detection.score == pytest.approx(score, rel=1e-5, abs=1e-5)


class WithEverything(Suite):
    channels = 2
    supplemental_clips = 4


EVERY_INPUT = [
    (
        "standardize=True)",
        'standardize=True, second_channel=True, features={"fine": MelSpec(hop_samples=256, n_mels=4)})',
    ),
    ('BatchPlan(16, "every-window")', 'BatchPlan(16, "window-per-clip", supplemental_rows=4)'),
    (
        '        return [Stage("one", [Update("all", optimizer)], epochs=self.config.epochs)]',
        '        updates = [Update("all", optimizer)]\n'
        '        first = Stage("one", updates, epochs=self.config.epochs)\n'
        '        return [first, Stage("two", updates, epochs=self.config.epochs, pseudo_labels=True)]\n'
        "    def pseudo_labels(self, batches):\n"
        "        far = [b.mean_over_clips(b.second_waveform.abs().mean(1)) for b in batches]\n"
        "        self.labels = (torch.cat(far) > torch.cat(far).median()).long()\n"
        "        return self.labels",
    ),
    (
        '        return Losses({"all": Mean.from_values(error.square())})',
        "        assert batch.supplemental.sum() <= 4\n"
        "        weight = 1.0 if batch.pseudo_label is None else 1 + batch.pseudo_label[:, None]\n"
        '        fine = batch.features["fine"].mean((1, 2))[:, None]\n'
        '        return Losses({"all": Mean.from_values(weight * (error - fine).square())})',
    ),
    (
        "score = error.abs().pow(self.config.power).mean(1)",
        "score = error.abs().pow(self.config.power).mean(1)"
        ' + batch.features["fine"][:, 2].square().mean(1) + batch.second_waveform.abs().mean(1)',
    ),
]


@pytest.mark.parametrize("scope", ["machine", "data set"])
def test_every_optional_input_and_pseudo_labels(build: Build, tmp_path: Path, scope: str) -> None:
    of_scope = ('    citation = "@misc', f'    scope = "{scope}"\n    citation = "@misc')
    finished = build(*EVERY_INPUT, of_scope, channels=2, supplemental_clips=4)
    assert [point.stage for point in finished.training_record.curve].count("two") == 3
    checks = checks_of(finished, tmp_path, WithEverything())
    for name in ("batches", "state", "silence", "learns", "same seed", "resumed"):
        checks[name]()
    resolved = finished.resolved
    description = resolved.training_description
    assert len(description["supplemental"]) == (1 if scope == "machine" else 2)
    export_model([resolved], finished.store, tmp_path / "detector")
    detector = Detector.load(tmp_path / "detector")
    for path, score in judged_scores(resolved, finished.store).select("path", "score").iter_rows():
        samples, rate = soundfile.read(resolved.data.root / path, dtype="int16")
        assert detector.score(samples.T, rate).score == pytest.approx(score, rel=1e-5, abs=1e-5)
    with pytest.raises(InputError, match="reads the far microphone; give recordings"):
        detector.score(samples[:, 0], rate)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("def forward(", "def forwards("),
            r"must define forward\(self, batch, update, progress\), because it",
        ),
        (
            ("epochs=self.config.epochs)]", "epochs=self.config.epochs, pseudo_labels=True)]"),
            r"must define pseudo_labels\(self, batches\), because its stage 'one' has pseudo_labels=True",
        ),
        (EVERY_INPUT[0], r"far microphone .* and 32 of 32 recordings of fan .* have one channel"),
        (EVERY_INPUT[1], r"'tiny' has no supplemental clips of fan, and this system trains with some"),
    ],
)
def test_what_a_system_lacks_is_a_sentence(build: Build, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(change)


def test_a_sound_system_passes(build: Build, tmp_path: Path) -> None:
    finished = build()
    found = checks_of(finished, tmp_path)
    for test in found.values():
        test()
    with pytest.raises(pytest.skip.Exception, match="scores no windows"):
        Suite().test_clip_scores_are_pooled_from_window_scores(finished)
    methods = {name for name in dir(SystemConformance) if name.startswith("test_")}
    # two of the test of settings, none of the one that is skipped
    assert len(found) == len(methods)


@pytest.mark.parametrize(
    ("caught_by", "old", "new"),
    [
        ("batches", "score = error.abs()", "score = (error - error.mean(0)).abs()"),
        ("batches", "/ rows}", "* batch.n_clips}"),
        ("batches", "    def components", "    def embeddings(self, batch):\n        "
         "return batch.mean_over_clips(batch.windows[:, 0] - batch.windows.mean())\n\n    def components"),
        ("state", "self.mean = torch.cat", "self.kept = torch.cat"),
        ("state", "/ rows}", "/ rows + torch.rand(batch.n_clips)}"),
        ("silence", "score = error", "flat = batch.windows.std(1).mean(1); score = (flat / flat) * error"),
        ("learns", "lr=1e-2", "lr=0.0"),
        ("epochs", "epochs=self.config.epochs", "epochs=3"),
        ("power", "pow(self.config.power)", "pow(2.0)"),
        ("power", 'affects="scoring"', 'affects="fusion"'),
        ("same seed", "register_buffer(\"mean\", torch.zeros(8))", "register_buffer('mean', torch.zeros(8)); "
         "__import__('torch').default_generator.seed(); self.linear.reset_parameters()"),
        ("other seed", "/ rows}", "* 0}"),
        ("resumed", "Mean.from_values(error.square())", "Mean.from_values(error.square() * self.next())"),
        ("said", 'citation = "@misc{theirs2023, title = {Theirs}}"', 'citation = "Theirs, 2023"'),
        ("said", '"""It has a docstring."""', ""),
        ("said", '"""A linear predictor of frames."""', ""),
    ],
)  # fmt: skip
def test_a_fault_is_caught(build: Build, tmp_path: Path, caught_by: str, old: str, new: str) -> None:
    counter = "    count = 0\n\n    def next(self):\n        self.count += 1\n        return self.count\n\n"
    kept = [("- self.mean\n", "- getattr(self, 'kept', 0)\n")] if "self.kept" in new else []
    changes = ((old, new), ("    def forward", counter + "    def forward"), *kept)
    with pytest.raises((AssertionError, InputError)):  # the run itself refuses what is not stored
        checks_of(build(*changes), tmp_path)[caught_by]()


UNTRAINED = ("epochs=self.config.epochs)]", "epochs=self.config.epochs)][:0]")
FIT = "self.mean = torch.cat(errors).mean(0)"


@pytest.mark.parametrize("fit", [FIT, f"{FIT} + torch.rand(8)"], ids=["exact", "random"])
def test_a_system_that_trains_nothing_passes(build: Build, tmp_path: Path, fit: str) -> None:
    finished = checks_of(build(UNTRAINED, (FIT, fit)), tmp_path)
    del finished["epochs"]  # of which there are none
    for test in finished.values():
        test()


@pytest.mark.parametrize(
    ("caught_by", "fit", "message"),
    [
        ("other seed", f"torch.manual_seed(7); {FIT} + torch.rand(8)", "seeds torch's generator; leave that"),
        ("other seed", f"{FIT} + __import__('random').random()", "not through torch's generator"),
        ("resumed", "self.seen.append(1); " + FIT + " * sum(self.seen)", "theirs differs for"),
        ("same seed", f"{FIT} + __import__('random').random()", "theirs differs for"),
        ("state", FIT.replace("mean", "kept", 1), "Theirs keeps 'kept' outside its parameters and buffers"),
    ],
)
def test_a_fault_of_a_system_that_trains_nothing_is_caught(
    build: Build, tmp_path: Path, caught_by: str, fit: str, message: str
) -> None:
    changes = (
        UNTRAINED,
        ("    def forward", "    kept = 0\n    seen: list[int] = []\n\n    def forward"),
        (FIT, fit),
        ("- self.mean\n", "- self.mean - self.kept\n"),
    )
    with pytest.raises((AssertionError, InputError), match=message):
        checks_of(build(*changes), tmp_path)[caught_by]()


def test_a_leak_of_the_domain_is_caught(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = JobData.raw_scoring_batches

    def leaking(self: JobData, clip_ids: Any, most: Any = None) -> Iterator[Any]:
        domains = dict(self.data.clips.select("clip_id", "domain").iter_rows())
        told = torch.tensor([domains[int(clip_id)] == "target" for clip_id in clip_ids])
        for batch in honest(self, clip_ids, most):
            yield replace(batch, domain=told[: batch.n_clips])

    monkeypatch.setattr(JobData, "raw_scoring_batches", leaking)
    bench = build(("/ rows}", "/ rows + batch.domain}"))
    with pytest.raises(AssertionError, match="theirs differs for"):
        checks_of(bench, tmp_path)["told"]()


def test_a_setting_without_another_value_asks_for_one(build: Build, tmp_path: Path) -> None:
    bench = build(("epochs: int = tunable(3)", 'epochs: int = tunable(3)\n    name: str = tunable("a")'))
    with pytest.raises(pytest.fail.Exception, match="add another value of name, now 'a', to 'alternatives'"):
        Suite().test_every_setting_changes_scores_or_cost(bench, bench.resolved.job, "name")


def test_pytest_makes_a_test_of_every_setting() -> None:
    class Fake:
        fixturenames = ("setting_name",)
        made: list[str]

        def parametrize(self, name: str, values: list[str]) -> None:
            self.made = values

    class Maha(SystemConformance):
        system = "baseline-maha"

    fake: Any = Fake()
    Maha().pytest_generate_tests(fake)
    assert fake.made == list(registry.configure("baseline-maha").values())


def test_scores_that_depend_on_the_batch_come_with_the_cure(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "check_single_clips", lambda *args, **options: None)  # fewer clips
    checks = checks_of(build(("/ rows}", "* batch.n_clips}")), tmp_path)
    with pytest.raises(AssertionError, match="compute_mode='donot_use_mm_for_euclid_dist'"):
        checks["batches"]()
