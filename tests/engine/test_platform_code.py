"""An edit of the platform changes the keys of the results that it may change, and no others."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asdbench import registry, source_code
from asdbench.data import feature_store
from asdbench.data.sets import catalog
from asdbench.engine import platform_code
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny

HASHES: dict[str, Callable[[], str]] = {
    "training": platform_code.training_code,
    "scoring": platform_code.scoring_code,
    "judging": platform_code.judging_code,
}
BEFORE = {name: code() for name, code in HASHES.items()}

Edit = Callable[[str, Callable[[str], str]], None]


def forget() -> None:
    for function in (*HASHES.values(), registry.platform_hash, registry.source_hash):
        function.cache_clear()  # type: ignore[attr-defined]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edit]:
    """A copy of the platform, of which code is read, and a function that edits a file of it."""
    copy = tmp_path / "asdbench"
    shutil.copytree(source_code._PLATFORM, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source_code, "_PLATFORM", copy)

    def edited(name: str, change: Callable[[str], str]) -> None:
        before = (copy / name).read_text()
        assert change(before) != before
        (copy / name).write_text(change(before))
        forget()

    forget()
    yield edited
    monkeypatch.undo()
    forget()


def changed() -> set[str]:
    return {name for name, code in HASHES.items() if code() != BEFORE[name]}


def constant(text: str) -> str:
    return f"{text}\nADDED = 1\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nn/all_rows.py", {"training"}),
        ("engine/training.py", {"training"}),
        ("engine/stacked_model.py", {"training"}),
        ("random_by_row.py", {"training", "scoring"}),
        ("features/mel.py", {"training", "scoring"}),
        ("data/loader.py", {"training", "scoring"}),
        ("data/audio.py", {"training", "scoring"}),
        ("engine/scoring.py", {"scoring", "judging"}),
        ("metrics/roc.py", {"judging"}),
        ("engine/fitted_fusion.py", {"judging"}),
        ("system.py", {"training", "scoring", "judging"}),
        ("nn/encoders/beats.py", set()),  # counts where a job reads its embeddings
        ("data/sets/catalog.py", set()),
        ("engine/job_store.py", set()),
        ("io/files.py", set()),
        ("report/leaderboard.py", set()),
    ],
)
def test_an_edit_counts_where_it_may_change_a_number(edit: Edit, name: str, expected: set[str]) -> None:
    edit(name, constant)
    assert changed() == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\nimport math\n", "\n# a comment\nimport math\n"),
        ('"""The training loop, ', '"""Reworded: the training loop, '),
        ('f"training diverged: ', 'f"reworded: '),
        ("    system.train()\n", '    system.train()\n    logger.info("training begins")\n'),
    ],
    ids=["comment", "docstring", "message", "log"],
)
def test_words_do_not_count(edit: Edit, old: str, new: str) -> None:
    edit("engine/training.py", lambda text: text.replace(old, new, 1))
    assert changed() == set()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("platform_code")
    workspace = Workspace.from_home(folder / "home")
    catalog.add(workspace, "tiny", write_tiny(folder / "clips"))
    return workspace


def names(workspace: Workspace, system: str) -> list[str]:
    """Training and scoring keys of a job, and the file names of its waveforms and spectrograms."""
    resolved = ResolvedJob.from_workspace(Job(system, {}, "tiny", "fan", 0), workspace)
    (data, spec), *_ = resolved.features
    mel = feature_store.mel_path(data, "fan", spec.mel, min_frames=spec.min_frames)
    return [*resolved.keys, feature_store.waveform_path(data, "fan").name, mel.name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nn/adacos.py", [True, True, False, False]),  # a layer that the system imports
        ("nn/cvae.py", [False, False, False, False]),  # one that it does not
        ("data/loader.py", [True, True, False, False]),
        ("engine/scoring.py", [False, True, False, False]),
        ("features/mel.py", [True, True, False, True]),
        ("data/audio.py", [True, True, True, True]),
        ("metrics/roc.py", [False, False, False, False]),
    ],
)
def test_an_edited_platform_reuses_no_result_that_it_would_change(
    workspace: Workspace, edit: Edit, name: str, expected: list[bool]
) -> None:
    before = names(workspace, "adacos")
    edit(name, constant)
    after = names(workspace, "adacos")
    assert [one != other for one, other in zip(before, after, strict=True)] == expected


def test_the_hashes_are_fast_and_import_nothing_heavy() -> None:
    script = (
        "import sys, time; began = time.process_time()\n"
        "from asdbench.engine.platform_code import judging_code, scoring_code, training_code\n"
        "hashes = training_code(), scoring_code(), judging_code()\n"
        "spent_s = time.process_time() - began\n"
        "print(*hashes, spent_s, *({'torch', 'numpy', 'polars'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *hashes, spent_s = found.stdout.split()
    assert hashes == list(BEFORE.values())
    assert float(spent_s) < 1.0  # about 0.2 s
