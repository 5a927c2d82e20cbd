"""Searches for fusion weights: what a batch draws, what a study finds, and that order does not matter."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import official_score, section_metrics
from asdbench.search.fusion import (
    BatchResult,
    RunStudy,
    WeightSearchResult,
    _thousandths,
    best_batch,
    distributions,
    evaluate_batch,
    initial_points,
    run_weight_study,
    search_weights,
    summarize,
)
from asdbench.search.fusion_problem import FusionProblem, fusion_problem
from tests.search.problems import CHOICES, SEEDS, ensemble, expected_score, judged, problem


def draw(given: FusionProblem, seed: int, *, batch: int = 1, **options: Any) -> BatchResult:
    """Return the result of a trial with random parameters."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    params = study.ask(distributions(given)).params
    return evaluate_batch(given, params, batch=batch, generator=np.random.default_rng(seed), **options)


def test_the_first_trials_are_equal_weights_and_each_member_alone() -> None:
    given = problem(np.random.default_rng(0))
    space = distributions(given)
    points = []
    for params in initial_points(given):
        assert params.keys() == space.keys()
        assert all(of._contains(of.to_internal_repr(params[name])) for name, of in space.items())
        result = evaluate_batch(given, params, batch=1, generator=np.random.default_rng(0))
        assert result.choice == given.choices[0]
        points.append(result.weights)
    assert points == [(0.334, 0.333, 0.333), (1, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_a_draw_of_ones_stands_for_equal_weights() -> None:
    given = problem(np.random.default_rng(0))
    params = dict.fromkeys(distributions(given), 1.0) | {"join": "scores"}
    result = evaluate_batch(given, params, batch=1, generator=np.random.default_rng(0))
    assert result.weights == (0.334, 0.333, 0.333)


def test_points_are_uniform_on_the_simplex() -> None:
    given = problem(np.random.default_rng(0), types=("fan",), seeds=1, clips=8)
    points = np.array([draw(given, seed).weights for seed in range(500)])
    assert points.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.04)
    # a weight of a uniform point has the density 2(1 − w), so it is below 0.5 with chance 3/4
    assert (points < 0.5).mean(axis=0) == pytest.approx([0.75] * 3, abs=0.06)


def test_a_batch_gives_the_best_of_its_weights() -> None:
    given = problem(np.random.default_rng(1))
    alone, many = draw(given, 5), draw(given, 5, batch=100)
    assert (alone.evaluations, many.evaluations) == (1, 100)
    assert many == draw(given, 5, batch=100)
    assert many.score > alone.score
    assert many.score == pytest.approx(expected_score(given, many.weights, many.choice), abs=1e-12)
    fan = draw(given, 5, batch=100, types=["fan"])
    assert fan.score == pytest.approx(
        expected_score(given, fan.weights, fan.choice, types=("fan",)), abs=1e-12
    )
    with pytest.raises(InputError, match="a batch has 0 evaluations"):
        draw(given, 5, batch=0)


def test_weights_are_thousandths_that_sum_to_1() -> None:
    given = np.random.default_rng(0).dirichlet(np.ones(6), 500)
    rounded = _thousandths(given)
    whole = np.rint(1000 * rounded)
    assert np.array_equal(whole / 1000, rounded)
    assert (whole.sum(axis=1) == 1000).all()
    assert (np.abs(rounded - given) < 0.001).all()
    assert np.array_equal(_thousandths(rounded), rounded)


def test_of_equal_scores_the_weights_nearest_to_equal_are_best() -> None:
    near, far = (BatchResult(0.5, weights, CHOICES[0], 1) for weights in ((0.4, 0.6), (0.7, 0.3)))
    assert best_batch([far, near]) is near
    assert best_batch([near, replace(far, score=0.5 + 1e-15)]) is near
    assert best_batch([near, replace(far, score=0.6)]).weights == far.weights
    perfect = problem(np.random.default_rng(0), shifts=(50.0, 50.0, 50.0))
    found = search_weights(perfect, evaluations=100, seed=0)
    assert (found.score, found.weights, found.choices) == (1.0, (0.334, 0.333, 0.333), CHOICES[0])


def test_a_search_comes_near_the_best_weights_there_are() -> None:
    given = problem(np.random.default_rng(3), shifts=(1.0, 0.8), clips=60)
    grid = np.linspace(0, 1, 1001)
    highest = max(given.scores(np.stack([grid, 1 - grid], axis=1), choice).max() for choice in CHOICES)
    found = search_weights(given, evaluations=600, seed=0)
    assert highest - 0.002 < found.score <= highest + 1e-12
    assert found.score > found.equal_weights + 0.002
    assert found.score == pytest.approx(expected_score(given, found.weights, found.choices), abs=1e-12)
    assert found.equal_weights == pytest.approx(expected_score(given, (0.5, 0.5), CHOICES[0]), abs=1e-12)


def test_a_search_is_never_worse_than_a_member_alone() -> None:
    given = problem(np.random.default_rng(4), shifts=(0.0, 0.0, 3.0, 0.0, 0.0, 0.0))
    found = search_weights(given, evaluations=7, seed=0)
    assert found.weights[2] == 1
    with pytest.raises(InputError, match=r"6 evaluations are too few for a search: .* give at least 7"):
        search_weights(given, evaluations=6, seed=0)


def test_equal_seeds_find_the_same_and_every_evaluation_is_counted() -> None:
    given = problem(np.random.default_rng(5))
    seen: list[int] = []
    found = search_weights(
        given,
        evaluations=150,
        batch=20,
        seed=7,
        on_batch=lambda result: seen.append(result.evaluations),
    )
    assert found == search_weights(given, evaluations=150, batch=20, seed=7)
    assert seen == 3 * ([20] * 7 + [10])  # all types, without fan, without valve
    assert found.evaluations == sum(seen) == 450


def test_the_order_and_the_process_of_studies_do_not_change_what_is_found() -> None:
    given = problem(np.random.default_rng(7), types=("fan", "pump", "valve"))
    ran: list[str | None] = []

    def elsewhere_and_backwards(run_study: RunStudy, studies: Sequence[str | None]) -> list[BatchResult]:
        ran.extend(studies)
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            return list(pool.map(run_study, studies[::-1]))[::-1]

    here = search_weights(given, evaluations=200, batch=20, seed=1)
    there = search_weights(given, evaluations=200, batch=20, seed=1, run_studies=elsewhere_and_backwards)
    assert there == here
    assert ran == [None, "fan", "pump", "valve"]
    again = run_weight_study(given, "pump", evaluations=200, batch=20, seed=1)
    assert here.leave_one_type_out is not None
    assert here.leave_one_type_out.types["pump"].weights == again.weights
    other_seed = search_weights(given, evaluations=200, batch=20, seed=2)
    assert other_seed.weights != here.weights


def test_what_is_found_without_a_type_does_not_depend_on_it() -> None:
    def search(given: FusionProblem) -> WeightSearchResult:
        return search_weights(given, evaluations=120, batch=20, seed=0)

    rng = np.random.default_rng(6)
    given = problem(rng, types=("fan", "pump", "valve"))
    fan, pump, valve = given.sections
    noise = replace(pump, contributions=rng.normal(size=pump.contributions.shape), target=~pump.target)
    other = search(replace(given, sections=(fan, noise, valve)))
    found = search(given)
    assert found.leave_one_type_out is not None
    assert other.leave_one_type_out is not None
    types, changed = found.leave_one_type_out.types, other.leave_one_type_out.types
    assert (types["pump"].weights, types["pump"].choice) == (changed["pump"].weights, changed["pump"].choice)
    assert types["pump"].score != changed["pump"].score
    assert (found.weights, types["fan"].weights) != (other.weights, changed["fan"].weights)


def test_the_score_of_left_out_types_is_put_together_from_each() -> None:
    given = problem(np.random.default_rng(8))
    chosen = BatchResult(0.0, (0.2, 0.3, 0.5), CHOICES[0], 10)
    left_out = {
        "valve": BatchResult(0.0, (1.0, 0.0, 0.0), CHOICES[1], 10),
        "fan": BatchResult(0.0, (0.0, 0.5, 0.5), CHOICES[0], 10),
    }
    found = summarize(given, {None: chosen, **left_out}, evaluations=10)
    assert found.score == pytest.approx(expected_score(given, chosen.weights, CHOICES[0]), abs=1e-12)
    by_seed: list[list[dict[str, float]]] = [[], []]
    assert found.leave_one_type_out is not None
    for section in given.sections:
        result = left_out[section.machine_type]
        of_type = found.leave_one_type_out.types[section.machine_type]
        contributions = section.contributions[CHOICES.index(result.choice)]  # type: ignore[arg-type]
        for rows, of_seed in zip(by_seed, contributions, strict=True):
            scores = np.array(result.weights) @ of_seed
            rows.append(section_metrics(scores, section.anomalous, section.target))
        for metric, value in of_type.sections["00"].items():
            assert value == pytest.approx(np.mean([rows[-1][metric] for rows in by_seed]), abs=1e-12)
        assert (of_type.weights, of_type.choice) == (result.weights, result.choice)
        assert of_type.score == pytest.approx(np.mean([official_score(rows[-1:]) for rows in by_seed]))
    expected = np.mean([official_score(rows) for rows in by_seed])
    assert found.leave_one_type_out.score == pytest.approx(expected, abs=1e-12)
    assert found.evaluations == 30
    with pytest.raises(ValueError, match=r"give those of the studies \[None, 'fan', 'valve'\]"):
        summarize(given, {None: chosen, "fan": chosen}, evaluations=10)


def test_a_single_machine_type_cannot_be_left_out() -> None:
    given = problem(np.random.default_rng(9), types=("fan",))
    found = search_weights(given, evaluations=20, seed=0)
    assert found.leave_one_type_out is None
    assert found.evaluations == 20
    assert found.settings == {"weights": found.weights, **found.choices}


# From the job store


def test_what_is_found_are_settings_that_give_its_score(home: Path) -> None:
    given = fusion_problem(
        ensemble(),
        catalog.load(Workspace.from_environment(), "tiny"),
        JobStore.from_workspace(Workspace.from_environment()),
        seeds=SEEDS,
    )
    found = search_weights(given, evaluations=60, seed=0)
    assert found.score == pytest.approx(judged(found.settings), abs=1e-12)
    assert found.equal_weights == pytest.approx(judged({}), abs=1e-12)
    assert found.leave_one_type_out is not None
    assert set(found.leave_one_type_out.types) == {"fan", "valve"}
