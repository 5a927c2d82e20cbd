"""The stored results of all data sets, their states, and the selection of some."""

import json
from pathlib import Path
from typing import Any

import pytest

from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.result_selection import ResultSelection, select_results
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

SETTINGS: dict[str, Any] = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}


@pytest.fixture
def results(store: JobStore) -> JobStore:
    for hidden in (8, 6):
        job = Job("baseline-mse", SETTINGS | {"hidden": hidden}, "tiny", "fan", 0)
        evaluate(ResolvedJob.from_workspace(job, Workspace.from_environment()), store)
    return store


def change(folder: Path, hidden: int, **changes: object) -> None:
    """Change the stored result of a setting."""
    (path,) = (
        p for p in (folder / "results").iterdir() if json.loads(p.read_text())["settings"]["hidden"] == hidden
    )
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def states(store: JobStore, **choice: Any) -> list[tuple[int, str]]:
    found = select_results(Workspace.from_environment(), store, ResultSelection(**choice))
    rows = found.selected.select("settings", "state").iter_rows()
    assert found.others.height == 2 - found.selected.height
    return sorted((json.loads(settings)["hidden"], state) for settings, state in rows)


def test_each_result_has_a_state(results: JobStore, folder: Path) -> None:
    assert states(results) == [(6, "current"), (8, "current")]
    change(folder, 6, seed=3)
    assert states(results) == [(6, "out of date"), (8, "current")]
    assert states(results, outdated=True) == [(6, "out of date")]


def test_what_is_unknown_here_does_not_count_as_out_of_date(results: JobStore, folder: Path) -> None:
    change(folder, 6, system="of-another-folder")
    change(folder, 8, data="removed")
    assert states(results) == [(6, "unknown system"), (8, "no data set")]
    assert states(results, outdated=True) == []
    assert states(results, systems=["of-another-folder"]) == [(6, "unknown system")]
    assert states(results, data="removed") == [(8, "no data set")]


def test_results_are_selected_by_seed_and_by_settings(results: JobStore, folder: Path) -> None:
    change(folder, 6, seed=3)
    assert [hidden for hidden, _ in states(results, seeds=[3, 4])] == [6]
    assert [hidden for hidden, _ in states(results, settings=SETTINGS)] == [8]
    assert [hidden for hidden, _ in states(results, settings={k: str(v) for k, v in SETTINGS.items()})] == [8]
    assert states(results, preset="demo") == []


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ({"data": "tinny"}, "no results on data set 'tinny'; did you mean 'tiny'"),
        ({"systems": ["baseline-mes"]}, "no results of system 'baseline-mes'; did you mean 'baseline-mse'"),
        ({"settings": {"hiden": 8}}, "no setting of baseline-mse: 'hiden'; did you mean 'hidden'"),
    ],
)
def test_names_that_do_not_exist_are_errors(results: JobStore, choice: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        states(results, **choice)
