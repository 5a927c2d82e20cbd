"""The results of runs and searches, as objects and as text."""

from typing import Any

import pytest

from asdbench.data.sets.catalog import DataSet
from asdbench.driver.run_result import RunResult, TunedSystem, TuneResult
from asdbench.driver.study_results import StudyResult, left_out_tables, studies_for_run
from asdbench.engine.events import Failure
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError
from asdbench.report.leaderboard_view import load_leaderboard
from asdbench.search.plan import Search
from asdbench.search.studies import Trial

SMALL = {"epochs": 1, "hidden": 8, "n_mels": 16, "frames": 2}
FAILURE = Failure("fan mine seed 0", "the layer is on fire " * 10, bad_input=False)


@pytest.fixture
def study_result(scored_jobs: list[ResolvedJob], tiny_data: DataSet, output: Any) -> StudyResult:
    """A study of a system with three trials; the second is the best."""
    (study,) = studies_for_run(
        scored_jobs[:2], Search(trials=3), preset=None, settings=SMALL, subset=None, console=output
    )
    start = study.space.parameters({})
    trials = [
        Trial(0, start, "complete", [0.5, 0.6], began_unix_s=10.0, ended_unix_s=12.5),
        Trial(1, start | {"batch_size": 32}, "complete", [0.6, 0.7], began_unix_s=10.0, ended_unix_s=13.0),
        Trial(2, start | {"batch_size": 64}, "failed", began_unix_s=10.0, ended_unix_s=11.0),
        Trial(3, start | {"batch_size": 64}),
    ]
    study.trials.extend(trials)
    result = StudyResult.from_study(study, tiny_data.machine_types)
    assert result is not None
    return result


def test_a_tuned_system_has_the_settings_that_changed_and_all_finished_trials(
    study_result: StudyResult,
) -> None:
    tuned = TunedSystem.from_study_result(study_result)
    assert (tuned.system, tuned.held_out) == ("baseline-mse", None)
    assert (tuned.settings, tuned.score, tuned.untuned_score) == ({"batch_size": 32}, 0.7, 0.6)
    assert tuned.trials["state"].to_list() == ["complete", "complete", "failed"]
    assert tuned.trials["score"].to_list() == [0.6, 0.7, 0.0]
    assert tuned.trials["duration_s"].to_list() == [2.5, 3.0, 1.0]
    assert "batch_size=32" in tuned.trials["settings"][1]


def result(tiny_data: DataSet, *failures: Failure) -> RunResult:
    board = load_leaderboard("tiny", tiny_data.workspace, subset="dev")
    return RunResult("tiny", (board,), failures, (), 2.0)


def test_what_failed_is_below_the_leaderboard_and_in_one_line(tiny_data: DataSet) -> None:
    failed = result(tiny_data, FAILURE)
    assert not failed.ok
    assert f"failed: {FAILURE.label}: {FAILURE.message}".rstrip() in str(failed)
    assert f"| {FAILURE.label} | {FAILURE.message.strip()} |" in failed.to_markdown()
    assert result(tiny_data).ok


def test_a_run_without_any_result_has_no_leaderboard() -> None:
    empty = RunResult("tiny", (), (FAILURE,), ("nothing is labeled",), 2.0)
    with pytest.raises(InputError, match="evaluated: nothing is labeled; fan mine seed 0: the layer"):
        _ = empty.leaderboard
    assert empty.to_json() == "[]\n"


def test_the_result_of_a_search_shows_what_it_found_above_the_leaderboard(
    study_result: StudyResult, tiny_data: DataSet, store: JobStore
) -> None:
    board = result(tiny_data)
    tuned = TuneResult(
        **vars(board),
        tuned=(TunedSystem.from_study_result(study_result),),
        fused={},
        left_out_tables=tuple(left_out_tables([study_result], store)),
        fresh_seeds_tables=(),
    )
    assert tuned.left_out_tables == ()  # the search left out no type
    assert tuned.rows == board.rows
    assert str(tuned) == str(board)
