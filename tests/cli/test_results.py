"""The commands of asdbench results."""

import json
from pathlib import Path

import pytest

from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.io.workspace import Workspace
from asdbench.testing.conformance import run_job
from tests.commands import asdbench

SETTINGS = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}


@pytest.fixture
def results(tiny: str) -> Path:
    """The folder of a job store with two results."""
    workspace = Workspace.from_environment()
    store = JobStore.from_workspace(workspace)
    for seed in (0, 1):
        job = Job("baseline-mse", SETTINGS, "tiny", "fan", seed)
        run_job(job, workspace, store)
        evaluate(ResolvedJob.from_workspace(job, workspace), store)
    return workspace.home / "jobs"


def count(folder: Path) -> tuple[int, int, int]:
    kinds = (folder / kind for kind in ("results", "trainings", "scores"))
    results, trainings, scores = (len(list(kind.iterdir())) for kind in kinds)
    return results, trainings, scores


def test_results_are_listed_and_removed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("results", "list", "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["system"], row["seeds"], row["state"], row["results"]) == (
        "baseline-mse",
        [0, 1],
        "current",
        2,
    )
    assert asdbench("results", "list", "--outdated") == 0
    assert capsys.readouterr().out == "there are no such results\n"
    assert asdbench("results", "remove", "--data", "tiny", "--seeds", "1") == 2
    captured = capsys.readouterr()
    assert "to remove: 1 result of baseline-mse, 1 set of scores, 1 training, on tiny (" in captured.out
    assert "add --yes" in captured.err
    assert count(results) == (2, 2, 2)
    assert asdbench("results", "remove", "--data", "tiny", "--seeds", "1", "--yes") == 0
    assert capsys.readouterr().out.endswith(
        "removed; MLflow follows at the next run, or now with 'asdbench record'\n"
    )
    assert count(results) == (1, 1, 1)
    assert asdbench("results", "remove", "--data", "tiny", "--preset", "demo", "--yes") == 0
    assert capsys.readouterr().out == "there are no such results; nothing was removed\n"
    assert count(results) == (1, 1, 1)


def test_what_is_asked_about_is_shown_with_quiet_too(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("results", "remove", "--data", "tiny", "--quiet") == 2
    assert capsys.readouterr().out.startswith("to remove: 2 results of baseline-mse")
    assert asdbench("data", "remove", "tiny", "--quiet") == 2
    assert "the registration in" in capsys.readouterr().out


def test_what_results_of_a_newer_version_need_stays(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = next((results / "results").iterdir())
    for number in range(6):
        record = json.loads(newer.read_text()) | {"schema_version": 99}
        newer.with_name(f"newer-{number}.json").write_text(json.dumps(record))
    newer.unlink()
    assert asdbench("results", "remove", "--data", "tiny", "--yes") == 2
    said = capsys.readouterr().err
    assert "newer-0.json has schema version 99" in said
    assert said.endswith("; or remove results with the asdbench that wrote it\n")
    assert count(results) == (7, 2, 2)


def test_results_of_a_removed_data_set_stay(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("data", "remove", "tiny", "--yes") == 0
    assert capsys.readouterr().out.endswith(
        "tiny is removed\nits results stay; 'asdbench results remove --data tiny' removes them as well\n"
    )
    assert count(results) == (2, 2, 2)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "nothing says which results to remove; give --data, --systems or --outdated"),
        (("--seeds", "0"), "nothing says which results to remove"),
        (("--outdated", "--searches"), "drop one of them"),
        (("--data", "tiny"), "no results on data set 'tiny'; there are: none"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tiny: str, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], why: str
) -> None:
    assert asdbench("results", "remove", *options, "--yes") == 2
    assert why in capsys.readouterr().err
