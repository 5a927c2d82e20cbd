"""Search for fusion weights: how much each ensemble member counts, and how members are joined.

An Optuna trial evaluates a batch of weight vectors. It draws a point on the simplex and the ensemble's
choices; the batch is that point and further weights around it. The point comes from one number u in (0, 1]
per member: −log(u), normalized to the sum 1, is uniform on the simplex for uniform u. The weights around it
follow the Dirichlet distribution whose mode is the point. All weights are rounded to thousandths that sum to
1 before they are evaluated, so that the reported score is exactly the score of the reported settings.

Only development labels steer a search. ``leave_one_type_out`` estimates how much of the gain carries over to
an unseen machine type: each type is scored with the weights that a study without it found.

The conventions are those of :mod:`asdbench.search.fusion_problem`. Ties go to the weights nearest to equal
ones.

Source: the tree-structured Parzen estimator of J. Bergstra et al., "Algorithms for hyper-parameter
optimization", NeurIPS 2011, as Optuna's ``TPESampler`` implements it; L. Devroye, "Non-uniform random variate
generation", Springer 1986, chapter XI, for the Dirichlet distribution.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import optuna

from asdbench.config import Scalar
from asdbench.errors import InputError
from asdbench.metrics.roc import FloatArray
from asdbench.search.fusion_problem import Choices, FusionProblem

_STEPS = 1000  # weights are multiples of 1/_STEPS
_MIN_DRAW = 1e-9  # lower bound of u, so that its logarithm is finite
_CONCENTRATIONS = (8.0, 64.0, 512.0)  # standard deviations around a point: about 0.15, 0.06, 0.02


@dataclass(frozen=True)
class BatchResult:
    """The best weights of a batch.

    Attributes
    ----------
    score
        Official score over the machine types that counted.
    weights
        One weight per member: thousandths that sum to 1.
    choice
        The value of each choice.
    evaluations
        Number of weight vectors that were evaluated.
    """

    score: float
    weights: tuple[float, ...]
    choice: Choices
    evaluations: int


RunStudy: TypeAlias = Callable[[str | None], BatchResult]  # takes the machine type to leave out, if any
RunStudies: TypeAlias = Callable[[RunStudy, Sequence[str | None]], Sequence[BatchResult]]


@dataclass(frozen=True)
class LeftOut:
    """A machine type, evaluated with the weights that were found without it.

    Attributes
    ----------
    weights, choice
        The best ones on the other machine types.
    score
        Official score of this machine type alone.
    sections
        Its metrics by section and name, averaged over seeds.
    """

    weights: tuple[float, ...]
    choice: Choices
    score: float
    sections: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class LeaveOneTypeOut:
    """An estimate of the score on an unseen machine type.

    Attributes
    ----------
    score
        Official score over all machine types, each evaluated with the weights that were found without it.
    types
        The machine types by name.
    """

    score: float
    types: Mapping[str, LeftOut]


@dataclass(frozen=True)
class WeightSearchResult:
    """The best fusion weights of a search.

    Attributes
    ----------
    members, weights
        The members' names and their weights: thousandths that sum to 1.
    choices
        The value of each choice.
    score
        Official score of these weights and choices.
    equal_weights
        Official score of the ensemble as it was configured, but with equal weights. No search was needed for
        it, so it can be compared with both other scores.
    leave_one_type_out
        ``None`` for a single machine type.
    evaluations
        Number of weight vectors that all studies evaluated together.
    weights_setting
        Name of the setting that holds the weights.
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
    def settings(self) -> dict[str, Scalar | tuple[float, ...]]:
        """The settings of the ensemble that give ``score``, as ``registry.configure`` takes them."""
        return {**self.choices, self.weights_setting: self.weights}


def distributions(problem: FusionProblem) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return the Optuna parameters of a trial: ``draw.<member>`` for each member, and each choice."""
    parameters: dict[str, optuna.distributions.BaseDistribution] = {
        _draw_name(member): optuna.distributions.FloatDistribution(_MIN_DRAW, 1.0)
        for member in problem.members
    }
    for name in problem.choices[0]:
        options = tuple(dict.fromkeys(choice[name] for choice in problem.choices))
        parameters[name] = optuna.distributions.CategoricalDistribution(options)
    return parameters


def initial_points(problem: FusionProblem) -> list[dict[str, Scalar]]:
    """Return the parameters of the first trials: equal weights, then each member alone."""
    points: list[dict[str, Scalar]] = []
    for weights in (problem.equal_weights, *np.eye(len(problem.members))):
        draws = zip(map(_draw_name, problem.members), np.exp(-weights).tolist(), strict=True)
        points.append({**dict(draws), **problem.choices[0]})
    return points


def _draw_name(member: str) -> str:
    return f"draw.{member}"


def evaluate_batch(
    problem: FusionProblem,
    params: Mapping[str, Scalar],
    *,
    batch: int,
    generator: np.random.Generator,
    types: Sequence[str] | None = None,
) -> BatchResult:
    """Evaluate the weights of a trial and ``batch − 1`` others around them, and return the best.

    Parameters
    ----------
    problem
        What to search.
    params
        A value for each of `distributions`.
    batch
        Number of weight vectors to evaluate.
    generator
        Draws the weights around the point.
    types
        The machine types that count (default: all).

    Raises
    ------
    InputError
        ``batch`` is below 1; an unknown choice or machine type.
    """
    if batch < 1:
        raise InputError(f"a batch has {batch} evaluations; give a whole number from 1, such as 64")
    choice = {name: params[name] for name in problem.choices[0]}
    drawn = -np.log([float(params[_draw_name(member)]) for member in problem.members])
    point = drawn / drawn.sum() if drawn.any() else problem.equal_weights
    concentration = np.resize(_CONCENTRATIONS, batch - 1)[:, None]
    around = generator.standard_gamma(1 + concentration * point)  # normalized: Dirichlet with this mode
    weights = _thousandths(np.vstack([point, around / around.sum(axis=1, keepdims=True)]))
    scores = problem.scores(weights, choice, types=types)
    return best_batch(
        BatchResult(score, tuple(row), choice, batch)
        for score, row in zip(scores.tolist(), weights.tolist(), strict=True)
    )


def best_batch(results: Iterable[BatchResult]) -> BatchResult:
    """Return the result with the highest score; ties go to the weights nearest to equal ones, then the first.

    Scores that differ by rounding alone count as tied.

    >>> results = [BatchResult(0.5, (0.9, 0.1), {}, 1), BatchResult(0.5, (0.6, 0.4), {}, 1)]
    >>> best_batch(results).weights
    (0.6, 0.4)
    """

    def rank(result: BatchResult) -> tuple[float, float]:
        squares = sum(weight**2 for weight in result.weights)  # smallest for equal weights
        return -round(result.score, 12), round(squares, 12)

    return min(results, key=rank)


def _thousandths(weights: FloatArray) -> FloatArray:
    """Round weights, shape (n, member), to thousandths; rows that sum to 1 still do.

    The thousandths that rounding down loses go to the largest remainders.
    """
    floors = np.floor(weights * _STEPS)
    missing = np.rint(_STEPS - floors.sum(axis=1, keepdims=True))
    rank = np.argsort(np.argsort(floors - weights * _STEPS, axis=1, kind="stable"), axis=1)
    rounded: FloatArray = (floors + (rank < missing)) / _STEPS
    return rounded


def weight_studies(problem: FusionProblem) -> tuple[str | None, ...]:
    """Return the studies of a search, each named by the machine type that it leaves out.

    The first, ``None``, leaves out no machine type. A single machine type cannot be left out.
    """
    types = problem.machine_types
    return (None, *(types if len(types) > 1 else ()))


def run_weight_study(
    problem: FusionProblem,
    held_out: str | None,
    *,
    evaluations: int,
    batch: int = 64,
    seed: int,
    on_batch: Callable[[BatchResult], None] | None = None,
) -> BatchResult:
    """Search the weights and choices with the best official score, without one machine type.

    The result depends on the arguments alone, not on the process or on other studies.

    Parameters
    ----------
    problem
        What to search.
    held_out
        The machine type that does not count; ``None`` if all do.
    evaluations
        Number of weight vectors to evaluate: at least one more than there are members, because equal weights
        and each member alone come first.
    batch
        Number of weight vectors per Optuna trial; fewer if the first trials would not fit otherwise.
    seed
        Seed of the sampler and of the draws around each point.
    on_batch
        Called after each Optuna trial with its result.

    Raises
    ------
    InputError
        There are too few evaluations, or ``batch`` is below 1.
    """
    first = initial_points(problem)
    if evaluations < len(first):
        raise InputError(
            f"{evaluations} evaluations are too few for a search: equal weights and each of "
            f"{len(problem.members)} members alone take {len(first)}; give at least {len(first)}"
        )
    batch = min(batch, evaluations // len(first))
    study = _optuna_study(seed)
    for params in first:
        study.enqueue_trial(params)
    counted = [name for name in problem.machine_types if name != held_out]
    results: list[BatchResult] = []
    remaining = evaluations
    while remaining:
        trial = study.ask(distributions(problem))
        result = evaluate_batch(
            problem,
            trial.params,
            batch=min(batch, remaining),
            generator=np.random.default_rng([seed, trial.number]),
            types=counted,
        )
        study.tell(trial, result.score)
        results.append(result)
        remaining -= result.evaluations
        if on_batch is not None:
            on_batch(result)
    return best_batch(results)


def run_in_turn(run_study: RunStudy, studies: Sequence[str | None]) -> list[BatchResult]:
    """Run studies one after another in this process."""
    return [run_study(held_out) for held_out in studies]


def search_weights(
    problem: FusionProblem,
    *,
    evaluations: int,
    batch: int = 64,
    seed: int,
    run_studies: RunStudies = run_in_turn,
    on_batch: Callable[[BatchResult], None] | None = None,
    leaves_types_out: bool = True,
) -> WeightSearchResult:
    """Search the weights and choices with the best official score, and estimate what the search is worth.

    With several machine types each of them is also left out once, unless ``leaves_types_out`` is false, in a
    study of its own with the same number of evaluations. Who runs the studies, and in what order, does not
    change the result.

    Parameters
    ----------
    problem, evaluations, batch, seed, on_batch
        Those of `run_weight_study`.
    run_studies
        Runs a function once for each study and returns the results in order; by default in this process.
    leaves_types_out
        Whether each of several machine types is left out once.

    Raises
    ------
    InputError
        As `run_weight_study` does.
    """
    run_study = partial(
        run_weight_study, problem, evaluations=evaluations, batch=batch, seed=seed, on_batch=on_batch
    )
    studies = weight_studies(problem) if leaves_types_out else (None,)
    best = dict(zip(studies, run_studies(run_study, studies), strict=True))
    return summarize(problem, best, evaluations=evaluations)


def _optuna_study(seed: int) -> optuna.Study:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    finally:
        optuna.logging.set_verbosity(verbosity)


def summarize(
    problem: FusionProblem, best: Mapping[str | None, BatchResult], *, evaluations: int
) -> WeightSearchResult:
    """Combine the studies of a search into its result.

    Parameters
    ----------
    problem
        What was searched.
    best
        The best batch of each of `weight_studies`, by the machine type that the study left out; or of the
        first study alone.
    evaluations
        Number of weight vectors that each study evaluated.
    """
    studies = weight_studies(problem)
    if set(best) not in ({None}, set(studies)):
        raise ValueError(f"there are results of {list(best)}; give those of the studies {list(studies)}")
    chosen = best[None]
    left_out = {name: result for name, result in best.items() if name is not None}
    return WeightSearchResult(
        members=problem.members,
        weights=chosen.weights,
        choices=chosen.choice,
        score=float(problem.scores([chosen.weights], chosen.choice)[0]),
        equal_weights=float(problem.scores([problem.equal_weights], problem.choices[0])[0]),
        leave_one_type_out=_leave_one_type_out(problem, left_out) if left_out else None,
        evaluations=evaluations * len(best),
        weights_setting=problem.weights_setting,
    )


def _leave_one_type_out(problem: FusionProblem, left_out: Mapping[str, BatchResult]) -> LeaveOneTypeOut:
    """Evaluate each machine type with the weights that were found without it."""
    types: dict[str, LeftOut] = {}
    all_metrics: dict[tuple[str, str], dict[str, FloatArray]] = {}
    for name, result in sorted(left_out.items()):
        metrics = problem.section_metrics([result.weights], result.choice, types=[name])
        all_metrics.update(metrics)
        sections = {
            section: {metric: float(values.mean()) for metric, values in by_metric.items()}
            for (_, section), by_metric in metrics.items()
        }
        score = float(problem.official_scores(metrics)[0])
        types[name] = LeftOut(result.weights, result.choice, score, sections)
    return LeaveOneTypeOut(float(problem.official_scores(all_metrics)[0]), types)
