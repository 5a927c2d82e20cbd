"""Fusion weights of an ensemble, found from stored scores: here, or as trials of Ray Tune.

No model runs. What was found is kept like any other search, under ``searches/`` in the job store, and the
results of the ensemble with it are marked dev-tuned, with the number of weights that were judged.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import SearchProvenance, labeled_clips, result_key
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, key_of
from asdbench.search.fusion import (
    BatchResult,
    WeightSearchResult,
    best,
    distributions,
    initial_points,
    search_weights,
    summarize,
)
from asdbench.search.fusion_problem import FusionProblem, fusion_problem
from asdbench.search.studies import SamplerByNumber

EVALUATIONS = 4000  # of a search, if nothing is asked for
_BATCH = 250


@dataclass(frozen=True)
class FusionResult:
    """An ensemble with the weights that were found.

    Attributes
    ----------
    ensemble : with the settings that were found
    tuned : how its results are marked
    jobs : on all machine types whose members' scores are there, for each seed
    report : what is shown of it
    """

    ensemble: registry.Configured
    tuned: SearchProvenance
    jobs: tuple[ResolvedJob, ...]
    report: dict[str, Any]


def fuse(
    ensemble: registry.Configured,
    data: DataSet,
    store: JobStore,
    *,
    seeds: Sequence[int],
    pseudo_anomaly_data: str | None,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
    connect: Callable[[], object] | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> FusionResult:
    """Find the weights of an ensemble's members, or take those found earlier from the same scores and labels.

    Parameters
    ----------
    ensemble : with its members as they have run
    data, store : the data set, and where scores are
    seeds : of the members
    pseudo_anomaly_data : data set of the pseudo-anomalies, if it is another
    evaluations : weights that each search judges
    seed : of the search
    connect : connects a Ray cluster, where the search is to be trials of Ray Tune instead of in this process;
        called if there is something to search
    tell : called with the number of weights that were judged and of all

    Raises
    ------
    InputError
        As :func:`asdbench.search.fusion.fusion_problem` and :func:`search_weights` do.
    """
    problem = fusion_problem(ensemble, data, store, seeds=seeds, pseudo_anomaly_data=pseudo_anomaly_data)
    labeled = labeled_clips(data, subset="dev")
    untuned = [
        result_key(resolved, labeled.filter(labeled["machine_type"] == machine_type), subset="dev")
        for machine_type in problem.machine_types
        for resolved in _jobs(ensemble, data, seeds, pseudo_anomaly_data, [machine_type])
    ]
    description = {"untuned": untuned, "evaluations": evaluations, "seed": seed, "batch": _BATCH}
    key = key_of(description)
    file = f"searches/{key}.json"
    if store.root.exists(file):
        record = store.root.read_json(file)
    else:
        search = _search_here
        if connect is not None:
            connect()
            search = _search_on_ray
        found = search(problem, evaluations, seed, tell or (lambda done, of: None))
        record = _record(ensemble, data, seeds, pseudo_anomaly_data, found, description, evaluations)
        store.root.write_json(file, record)
    chosen = registry.configure(ensemble.name, record["best"]["settings"])
    jobs = _jobs(chosen, data, seeds, pseudo_anomaly_data, data.machine_types)
    return FusionResult(
        chosen,
        SearchProvenance(key, record["trials_done"], record["protocol"]),
        tuple(resolved for resolved in jobs if store.is_scored(resolved)),
        record["report"],
    )


def _jobs(
    ensemble: registry.Configured,
    data: DataSet,
    seeds: Sequence[int],
    pseudo_anomaly_data: str | None,
    machine_types: Sequence[str],
) -> list[ResolvedJob]:
    return [
        ResolvedJob.from_configured(
            ensemble, data, machine_type, seed=seed, pseudo_anomaly_data=pseudo_anomaly_data
        )
        for machine_type in machine_types
        for seed in dict.fromkeys(seeds)
    ]


def _record(
    ensemble: registry.Configured,
    data: DataSet,
    seeds: Sequence[int],
    pseudo_anomaly_data: str | None,
    found: WeightSearchResult,
    description: dict[str, Any],
    evaluations: int,
) -> dict[str, Any]:
    left_out = found.leave_one_type_out
    return {
        "system": ensemble.name,
        "data": data.name,
        "subset": "dev",
        "protocol": "dev",
        "held_out": None,
        "pseudo_anomaly_data": pseudo_anomaly_data,
        "start": ensemble.changed(),
        "seeds": list(dict.fromkeys(seeds)),
        "description": description,
        "trials_done": evaluations,
        "best": {"score": found.score, "settings": {**ensemble.changed(), **found.settings}},
        "report": {
            "members": list(found.members),
            "weights": list(found.weights),
            "choices": dict(found.choices),
            "score": found.score,
            "equal_weights": found.equal_weights,
            "leave_one_type_out": left_out.score if left_out else None,
            "left_out": {
                name: {"weights": list(of.weights), "score": of.score} for name, of in left_out.types.items()
            }
            if left_out
            else {},
        },
    }


def _search_here(
    problem: FusionProblem, evaluations: int, seed: int, tell: Callable[[int, int], None]
) -> WeightSearchResult:
    searches = 1 + (len(problem.machine_types) if len(problem.machine_types) > 1 else 0)
    done = 0

    def count(result: BatchResult, _: str | None) -> None:
        nonlocal done
        done += result.evaluations
        tell(done, evaluations * searches)

    return search_weights(problem, evaluations=evaluations, batch=_BATCH, seed=seed, on_trial=count)


def _search_on_ray(
    problem: FusionProblem, evaluations: int, seed: int, tell: Callable[[int, int], None]
) -> WeightSearchResult:
    """Search with a Ray Tune trial for each batch: one study over all types, and one without each of them."""
    from asdbench.cluster.tuning import Course, Over, optuna_search, weighing

    types = problem.machine_types
    without: list[str | None] = [None, *(types if len(types) > 1 else ())]
    trials = max(len(initial_points(problem)), -(-evaluations // _BATCH))
    batch = -(-evaluations // trials)
    storage = optuna.storages.InMemoryStorage()
    courses = []
    for held_out in without:
        name = held_out or "all"
        sampler = SamplerByNumber(seed)
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", sampler=sampler)
        for parameters in initial_points(problem):
            study.enqueue_trial(parameters)
        search = optuna_search(distributions(problem), name=name, storage=storage, sampler=sampler)
        courses.append(Course(name, search, trials, rungs=1))
    tuning = weighing(courses, problem, batch=batch, seed=seed)
    results: dict[str, list[BatchResult]] = {course.name: [] for course in courses}
    while tuning.alive:
        for message in tuning.messages():
            if isinstance(message, Over) and message.result is not None:
                of = message.result
                results[message.course].append(
                    BatchResult(of["score"], tuple(of["weights"]), dict(of["choice"]), of["evaluations"])
                )
                tell(sum(r.evaluations for rs in results.values() for r in rs), batch * trials * len(courses))
        time.sleep(0.05)
    if tuning.error is not None:
        raise tuning.error
    chosen = {name: best(of) for name, of in results.items()}
    left_out = {name: chosen[name] for name in without if name is not None}
    return summarize(problem, chosen["all"], left_out, evaluations=batch * trials * len(courses))
