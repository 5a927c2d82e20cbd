"""Fusion weights: how much each member of an ensemble counts, and how members are joined, by official score.

An Optuna trial is a batch: a point on the simplex and the choices are drawn, and weights around that point
are judged with it. The point comes from a number u in (0, 1] a member, −log(u) normalized to the sum 1, which
is uniform on the simplex for uniform u; the weights around it follow the Dirichlet distribution whose mode it
is. All weights are thousandths that sum to 1 before they are judged, so that what is reported is what the
settings give.

Only development labels steer a search. ``leave_one_type_out`` is the estimate of what the search is worth on
an unknown machine: each type is judged with what a search of its own found without it.

Conventions are those of :mod:`asdbench.search.fusion_problem`. Of equal scores the weights nearest to equal
ones are preferred.

Source: the tree-structured Parzen estimator of J. Bergstra et al., "Algorithms for hyper-parameter
optimization", NeurIPS 2011, as Optuna's ``TPESampler`` implements it; L. Devroye, "Non-uniform random variate
generation", Springer 1986, chapter XI, for the Dirichlet distribution.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from asdbench.errors import InputError
from asdbench.metrics.roc import FloatArray
from asdbench.search.fusion_problem import Choices, FusionProblem

_STEPS = 1000  # weights are multiples of 1/_STEPS
_LEAST_DRAW = 1e-9  # of u; its logarithm must be finite
_CONCENTRATIONS = (8.0, 64.0, 512.0)  # of the draws around a point: deviations of about 0.15, 0.06 and 0.02


@dataclass(frozen=True)
class BatchResult:
    """The best weights of a batch.

    Attributes
    ----------
    score
        Its official score over the machine types that counted.
    weights
        A weight for each member: thousandths that sum to 1.
    choice
        The value of each choice.
    evaluations
        How many weights were judged.
    """

    score: float
    weights: tuple[float, ...]
    choice: Choices
    evaluations: int


@dataclass(frozen=True)
class LeftOut:
    """A machine type, judged with what was found without it.

    Attributes
    ----------
    weights, choice
        What was found on the other machine types.
    score
        The official score of the machine type alone.
    sections
        Its metrics by section and name, averaged over seeds.
    """

    weights: tuple[float, ...]
    choice: Choices
    score: float
    sections: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class LeaveOneTypeOut:
    """What the search is worth on an unknown machine type.

    Attributes
    ----------
    score
        The official score over all machine types, each judged with what was found without it.
    types
        Each machine type by name.
    """

    score: float
    types: Mapping[str, LeftOut]


@dataclass(frozen=True)
class WeightSearchResult:
    """What a search has found.

    Attributes
    ----------
    members, weights
        The members' names and their weights: thousandths that sum to 1.
    choices
        The value of each choice.
    score
        The official score of that.
    equal_weights
        The official score of the ensemble as it was configured, but with equal weights. Nothing was searched
        for it, so it may stand beside both other scores.
    leave_one_type_out
        ``None`` where there is one machine type.
    evaluations
        How many weights were judged in all.
    weights_setting
        The setting that holds the weights.
    """

    members: tuple[str, ...]
    weights: tuple[float, ...]
    choices: Choices
    score: float
    equal_weights: float
    leave_one_type_out: LeaveOneTypeOut | None
    evaluations: int
    weights_setting: str

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the ensemble that give ``score``, as ``registry.configure`` takes them."""
        return {**self.choices, self.weights_setting: self.weights}


def distributions(problem: FusionProblem) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return the parameters of a trial: a draw for each member, named ``draw.<member>``, and each choice."""
    found: dict[str, optuna.distributions.BaseDistribution] = {
        _draw_of(member): optuna.distributions.FloatDistribution(_LEAST_DRAW, 1.0)
        for member in problem.members
    }
    for name in problem.choices[0]:
        options = tuple(dict.fromkeys(choice[name] for choice in problem.choices))
        found[name] = optuna.distributions.CategoricalDistribution(options)
    return found


def initial_points(problem: FusionProblem) -> list[dict[str, Any]]:
    """Return the parameters of the trials to begin with: equal weights, then each member alone."""
    return [
        {_draw_of(m): float(np.exp(-w)) for m, w in zip(problem.members, weights, strict=True)}
        | dict(problem.choices[0])
        for weights in (problem.equal_weights, *np.eye(len(problem.members)))
    ]


def _draw_of(member: str) -> str:
    return f"draw.{member}"


def evaluate_batch(
    problem: FusionProblem,
    params: Mapping[str, Any],
    *,
    batch: int,
    generator: np.random.Generator,
    types: Sequence[str] | None = None,
) -> BatchResult:
    """Judge the weights of a trial and ``batch − 1`` others around them, and return the best.

    Parameters
    ----------
    problem
        What is searched.
    params
        A value for each of `distributions`.
    batch
        How many weights to judge.
    generator
        Draws the others.
    types
        The machine types that count; all, if not given.

    Raises
    ------
    InputError
        ``batch`` is below 1; an unknown choice or machine type.
    """
    if batch < 1:
        raise InputError(f"a batch has {batch} evaluations; give a whole number from 1, such as 64")
    choice = {name: params[name] for name in problem.choices[0]}
    drawn = -np.log([params[_draw_of(member)] for member in problem.members])
    point = drawn / drawn.sum() if drawn.any() else problem.equal_weights
    concentration = np.resize(_CONCENTRATIONS, batch - 1)[:, None]
    around = generator.standard_gamma(1 + concentration * point)  # normalized: Dirichlet with this mode
    weights = _thousandths(np.vstack([point, around / around.sum(axis=1, keepdims=True)]))
    scores = problem.scores(weights, choice, types=types)
    return best(
        BatchResult(score, tuple(row), choice, batch)
        for score, row in zip(scores.tolist(), weights.tolist(), strict=True)
    )


def best(results: Iterable[BatchResult]) -> BatchResult:
    """Return the result with the highest score; of equals that nearest to equal weights, then the first.

    Scores are equal where they differ by rounding alone.
    """

    def rank(result: BatchResult) -> tuple[float, float]:
        squares = sum(weight**2 for weight in result.weights)  # of weights that sum to 1: least where equal
        return -round(result.score, 12), round(squares, 12)

    return min(results, key=rank)


def _thousandths(weights: FloatArray) -> FloatArray:
    """Round weights, shape (n, member), of rows that sum to 1, so that they still do.

    What is missing after rounding down goes to the largest remainders.
    """
    whole = np.floor(weights * _STEPS)
    missing = np.rint(_STEPS - whole.sum(axis=1, keepdims=True))
    rank = np.argsort(np.argsort(whole - weights * _STEPS, axis=1, kind="stable"), axis=1)
    rounded: FloatArray = (whole + (rank < missing)) / _STEPS
    return rounded


def search_weights(
    problem: FusionProblem,
    *,
    evaluations: int,
    batch: int = 64,
    seed: int,
    on_trial: Callable[[BatchResult, str | None], None] | None = None,
) -> WeightSearchResult:
    """Search the weights and choices with the best official score, in this process.

    With several machine types each of them is left out in turn, in a search of its own with as many
    evaluations.

    Parameters
    ----------
    problem
        What is searched.
    evaluations
        How many weights each search judges: at least one more than there are members, for equal weights and
        each member alone come first.
    batch
        How many weights a trial judges; fewer where these first trials would not fit in.
    seed
        Equal seeds give equal results.
    on_trial
        Called after each trial with its result and the machine type that is left out, if one is.

    Raises
    ------
    InputError
        There are too few evaluations, or ``batch`` is below 1.
    """
    first = initial_points(problem)
    if evaluations < len(first):
        raise InputError(
            f"{evaluations} evaluations are too few for a search; equal weights and each of "
            f"{len(problem.members)} members alone take {len(first)}"
        )
    batch = min(batch, evaluations // len(first))
    types = problem.machine_types
    searches: list[str | None] = [None, *(types if len(types) > 1 else ())]
    found: dict[str | None, BatchResult] = {}
    for held_out in searches:
        study = _study(seed)
        for params in first:
            study.enqueue_trial(params)
        counted = [name for name in types if name != held_out]
        results: list[BatchResult] = []
        left = evaluations
        while left:
            trial = study.ask(distributions(problem))
            result = evaluate_batch(
                problem,
                trial.params,
                batch=min(batch, left),
                generator=np.random.default_rng([seed, trial.number]),
                types=counted,
            )
            study.tell(trial, result.score)
            results.append(result)
            left -= result.evaluations
            if on_trial is not None:
                on_trial(result, held_out)
        found[held_out] = best(results)
    left_out = {name: found[name] for name in searches if name is not None}
    return summarize(problem, found[None], left_out, evaluations=evaluations * len(searches))


def _study(seed: int) -> optuna.Study:
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    finally:
        optuna.logging.set_verbosity(said)


def summarize(
    problem: FusionProblem, chosen: BatchResult, left_out: Mapping[str, BatchResult], *, evaluations: int
) -> WeightSearchResult:
    """Return what to report of a search.

    Parameters
    ----------
    problem
        What was searched.
    chosen
        The best of all trials.
    left_out
        For every machine type the best of the trials in which it did not count; empty where there is one
        machine type, or where none was left out.
    evaluations
        How many weights were judged in all.
    """
    own = problem.choices[0]
    leave_one_type_out = None
    if left_out:
        if set(left_out) != set(problem.machine_types):
            raise ValueError(
                f"left out were {sorted(left_out)} of {list(problem.machine_types)}: leave out each"
            )
        types, judged = {}, {}
        for name, result in sorted(left_out.items()):
            metrics = problem.section_metrics([result.weights], result.choice, types=[name])
            judged.update(metrics)
            sections = {
                section: {metric: float(values.mean()) for metric, values in of.items()}
                for (_, section), of in metrics.items()
            }
            score = float(problem.official_scores(metrics)[0])
            types[name] = LeftOut(result.weights, result.choice, score, sections)
        leave_one_type_out = LeaveOneTypeOut(float(problem.official_scores(judged)[0]), types)
    return WeightSearchResult(
        members=problem.members,
        weights=chosen.weights,
        choices=chosen.choice,
        score=float(problem.scores([chosen.weights], chosen.choice)[0]),
        equal_weights=float(problem.scores([problem.equal_weights], own)[0]),
        leave_one_type_out=leave_one_type_out,
        evaluations=evaluations,
        weights_setting=problem.weights_setting,
    )
