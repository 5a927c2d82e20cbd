"""What a search found is scored with other seeds; an ensemble of tuned members is estimated without them."""

from collections.abc import Callable
from typing import Any

import pytest

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.driver import pipeline
from asdbench.driver.executor import ExecutionOptions
from asdbench.driver.fresh_seeds import candidates, fresh_seeds, untuned_jobs
from asdbench.driver.request import RunRequest, resolve_jobs
from asdbench.driver.run_result import TuneResult
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.metrics import official_score
from asdbench.search.plan import Search, studies_for_system
from asdbench.search.studies import Study, Trial
from tests.driver.played_searches import PlayedExecutor

SMALL = {"epochs": 1, "hidden": 8, "n_mels": 16, "frames": 2}
RATES = {1: 0.03, 2: 0.1, 3: 0.003}
Tune = Callable[..., tuple[TuneResult, PlayedExecutor]]


def draw(study: Study, number: int) -> dict[str, Any]:
    """Draw other settings for each trial, and others again without each machine type."""
    factor = {None: 1, "fan": 2, "valve": 3}[study.held_out]
    return {"learning_rate": RATES[number] / factor}


@pytest.fixture
def tune(tiny_data: DataSet, output: Any, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """Run a search on two machine types, without Ray."""
    monkeypatch.setattr(pipeline, "record_judged", lambda *_: None)  # MLflow has tests of its own
    monkeypatch.setattr(pipeline, "record_trial", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "show_recorded", lambda *_, **__: None)

    def tune(*systems: str, trials: int = 2, **search: Any) -> tuple[TuneResult, PlayedExecutor]:
        executor = PlayedExecutor(draw)
        monkeypatch.setattr(pipeline, "Executor", executor.opened)
        settings = {**SMALL, "members": "baseline-mse,baseline-maha"}
        result = pipeline.run(
            RunRequest(systems, "tiny", settings=settings if "ensemble" in systems else SMALL),
            ExecutionOptions(),
            tiny_data.workspace,
            console=output,
            search=Search(trials, only_settings=("learning_rate",), **search),
        )
        assert isinstance(result, TuneResult)
        assert result.ok
        return result, executor

    return tune


def test_the_board_shows_the_score_of_a_search_with_fresh_seeds(
    tune: Tune, tiny_data: DataSet, store: JobStore, output: Any
) -> None:
    result, executor = tune("baseline-mse", trials=3, fresh_seeds=2)
    assert "up to 12 trainings with 2 fresh seeds" in " ".join(output.lines)
    (tuned,) = result.tuned
    (row,) = [row for row in result.rows if row["tuned"]]
    assert (row["seeds"], row["tuned"]["seeds"], row["tuned"]["score"]) == ([1, 2], (0,), tuned.score)
    (untuned,) = [row for row in result.rows if not row["tuned"]]
    assert untuned["seeds"] == [0, 1, 2]
    (table,) = result.fresh_seeds_tables
    roles = [line.cells[0] for line in table.rows]
    assert roles[0].startswith("found")
    assert "untuned" in ", ".join(roles)
    assert table.rows[0].cells[2] == f"{100 * tuned.score:.2f}"
    spread = f"{100 * row['official_score']:.2f} ± {100 * row['official_score_std']:.2f}"
    assert table.rows[0].cells[3] == spread
    assert f"{100 * tuned.score:.2f} in the search" in " ".join(str(result.leaderboard).split())
    assert len(executor.ran[1]) == 12  # three settings, two seeds, two machine types
    again, resumed = tune("baseline-mse", trials=3, fresh_seeds=2)
    assert (resumed.ran, again.rows) == ([[], []], result.rows)


def test_without_fresh_seeds_the_row_says_whose_seeds_it_has(tune: Tune) -> None:
    result, executor = tune("baseline-mse", fresh_seeds=0)
    (row,) = [row for row in result.rows if row["tuned"]]
    assert (row["seeds"], result.fresh_seeds_tables, executor.ran[1:]) == ([0], (), [[]])
    assert "seeds of the search" in " ".join(str(result.leaderboard).split())


def test_tuned_members_are_estimated_by_searches_that_left_the_type_out(
    tune: Tune, tiny_data: DataSet, store: JobStore
) -> None:
    systems = ("baseline-mse", "baseline-maha", "ensemble")
    first, executor = tune(*systems, fresh_seeds=1)
    report = first.fused["ensemble"]
    assert (report.equal_weights, report.leave_one_type_out, report.left_out, report.nested) == (
        None, None, {}, None,
    )  # fmt: skip
    assert executor.weight_studies == [None]
    assert (report.member_trials, report.weight_vectors) == (4, 4000)
    command = (
        "asdbench tune baseline-mse baseline-maha ensemble --data tiny --trials 2 "
        "--protocol leave-one-type-out --only-settings learning_rate --fresh-seeds 1 --seeds 0 --set"
    )
    text = " ".join(str(first).split())
    assert "There is no estimate for an unseen machine type" in text
    assert any(command in note for note in first.notes)
    assert "left out" not in first.to_markdown().partition("There is no")[0]
    (row,) = [row for row in first.rows if row["system"] == "ensemble" and row["tuned"]]
    assert (row["seeds"], row["tuned"]["trials"], row["tuned"]["weight_vectors"]) == ([1], 4, 4000)
    assert "dev-tuned, 4 trials, 4,000 weight vectors" in text

    left_out, _ = tune(*systems, fresh_seeds=1, protocol="leave-one-type-out")
    untuned = left_out.fused["ensemble"]
    assert set(untuned.left_out) == {"fan", "valve"}  # of members that no label has tuned
    assert untuned.nested is not None

    second, executor = tune(*systems, fresh_seeds=1)
    assert executor.ran == [[], []]
    assert executor.weight_studies == ["fan", "valve"]  # the weights of all types are stored
    nested = second.fused["ensemble"].nested
    assert nested == untuned.nested
    assert second.fused["ensemble"].without_estimate is None
    assert "equal, left out, all, tuned too" in second.to_markdown()
    for held_out, found in nested.left_out.items():
        settings: dict[str, Any] = {**SMALL, "members": "baseline-mse,baseline-maha"}
        for tuned in left_out.tuned:
            if tuned.held_out == held_out:
                settings |= {f"{tuned.system}.{name}": value for name, value in tuned.settings.items()}
        choices = {"weights": found.weights, **found.choices}
        job = ResolvedJob.from_configured(
            registry.configure("ensemble", settings | choices), tiny_data, held_out, seed=1
        )
        sections = evaluate(job, store, subset="dev").record.official_metrics
        assert official_score(sections, rule=tiny_data.rule) == pytest.approx(found.score, abs=1e-12)


def test_runners_up_are_the_next_best_with_other_settings(
    small_jobs: Callable[..., list[ResolvedJob]],
) -> None:
    (study,) = studies_for_system(small_jobs(), Search(9, only_settings=("learning_rate",)), fixed=[])
    assert fresh_seeds(small_jobs(), 3) == (1, 2, 3)
    start = study.space.start["learning_rate"]
    drawn = [(start, 0.5), (0.1, 0.7), (0.1, 0.7), (start, 0.69), (0.2, 0.6), (0.3, 0.9), (0.4, 0.55)]
    for number, (rate, score) in enumerate(drawn):
        state = "pruned" if rate == 0.3 else "complete"
        study.trials.append(Trial(number, {"learning_rate": rate}, state, [score, score]))
    best = study.best_trial()
    assert best is not None
    scored = candidates(study, best, (1, 2))
    shown = [(one.role, one.changed.get("learning_rate"), one.score) for one in scored]
    assert shown == [
        ("found", 0.1, 0.7),
        ("runner-up", 0.2, 0.6),
        ("runner-up", 0.4, 0.55),
        ("untuned", None, 0.5),
    ]
    assert [job.seed for job in scored[1].jobs["fan"]] == [1, 2]
    study.trials[:] = study.trials[:1]
    (only,) = candidates(study, study.trials[0], (1, 2))
    assert (only.role, only.changed) == ("found, untuned", {})


def test_without_a_search_an_ensemble_runs_with_no_other_seed(tiny_data: DataSet) -> None:
    settings = {**SMALL, "members": "baseline-mse,baseline-maha"}
    request = RunRequest(["ensemble"], "tiny", settings=settings)
    assert untuned_jobs(resolve_jobs(request, tiny_data.workspace), [], (1, 2, 3)) == []
