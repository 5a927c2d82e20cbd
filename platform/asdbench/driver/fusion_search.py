"""Search for the fusion weights of an ensemble, from stored scores.

No model runs. The same search runs in this process (``asdbench fuse``) and on a cluster (a sweep), with equal
results. It is stored like any other search, under ``searches/`` in the job store, and the ensemble's results
with its weights are marked dev-tuned, with the number of trials of the members' searches and, apart from
these, the number of weight vectors that were evaluated.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import labeled_clips, result_key
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, key_of
from asdbench.engine.result_record import SearchProvenance
from asdbench.engine.search_record import (
    BestWeights,
    FusionRecord,
    FusionReport,
    LeftOutReport,
    load_fusion,
    save_search,
)
from asdbench.search.fusion import (
    BatchResult,
    RunStudies,
    WeightSearchResult,
    run_in_turn,
    search_weights,
    weight_studies,
)
from asdbench.search.fusion_problem import fusion_problem

EVALUATIONS = 4000  # default number of weight vectors per study
_BATCH = 250
_REVISION = 3  # changes whenever the same search would find other weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FusionResult:
    """An ensemble with the best weights of a search.

    Attributes
    ----------
    ensemble : with the settings that the search found
    tuned : how its results are marked
    jobs : one per seed, on all machine types whose members are scored
    report : the weights and scores, for people
    """

    ensemble: registry.Configured
    tuned: SearchProvenance
    jobs: tuple[ResolvedJob, ...]
    report: FusionReport


def search_fusion_weights(
    ensemble: registry.Configured,
    data: DataSet,
    store: JobStore,
    *,
    seeds: Sequence[int],
    pseudo_anomaly_data: str | None,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
    member_trials: int = 0,
    run_studies: RunStudies = run_in_turn,
    on_progress: Callable[[int, int], None] | None = None,
) -> FusionResult:
    """Search the weights of an ensemble's members, or load those of an earlier, equal search.

    An equal search has the same members' scores, labels, number of evaluations and seed.

    Parameters
    ----------
    ensemble : with its members as they have run
    data, store : the data set, and the store of the members' scores
    seeds : of the members
    pseudo_anomaly_data : data set of the pseudo-anomalies, if not ``data``
    evaluations : number of weight vectors that each study evaluates
    seed : of the search
    member_trials : number of trials of the searches that chose the members' settings
    run_studies : runs the weight studies; by default in this process
    on_progress : called with the number of weight vectors evaluated so far and in total, if the studies run
        in this process

    Raises
    ------
    InputError
        As `fusion_problem` and `search_weights` do.
    """
    problem = fusion_problem(ensemble, data, store, seeds=seeds, pseudo_anomaly_data=pseudo_anomaly_data)
    labeled = labeled_clips(data, subset="dev")
    untuned = [
        result_key(resolved, labeled.filter(labeled["machine_type"] == machine_type), subset="dev")
        for machine_type in problem.machine_types
        for resolved in _jobs(ensemble, data, seeds, pseudo_anomaly_data, [machine_type])
    ]
    description = {
        "revision": _REVISION,
        "untuned": untuned,
        "evaluations": evaluations,
        "seed": seed,
        "batch": _BATCH,
    }
    key = key_of(description)
    record = load_fusion(store, key)
    if record is not None:
        logger.info("the weights of %s are stored as search %s", ensemble.name, key)
    else:
        logger.info("searching the weights of %s: %d evaluations per study", ensemble.name, evaluations)
        n_total = evaluations * len(weight_studies(problem))
        result = search_weights(
            problem,
            evaluations=evaluations,
            batch=_BATCH,
            seed=seed,
            run_studies=run_studies,
            on_batch=None if on_progress is None else _counted(on_progress, n_total),
        )
        record = FusionRecord(
            system=ensemble.name,
            data=data.name,
            subset="dev",
            protocol="dev",
            held_out=None,
            pseudo_anomaly_data=pseudo_anomaly_data,
            start=ensemble.changed(),
            seeds=tuple(dict.fromkeys(seeds)),
            description=description,
            best=BestWeights(result.score, {**ensemble.changed(), **result.settings}),
            report=_report(result, member_trials=member_trials, weight_vectors=evaluations),
        )
        save_search(store, key, record)
    tuned = registry.configure(ensemble.name, dict(record.best.settings))
    jobs = _jobs(tuned, data, seeds, pseudo_anomaly_data, data.machine_types)
    snapshot = store.snapshot()
    return FusionResult(
        tuned,
        SearchProvenance(
            key,
            record.report.member_trials,
            record.protocol,
            record.seeds,
            record.best.score,
            record.report.weight_vectors,
        ),
        tuple(resolved for resolved in jobs if snapshot.is_scored(resolved)),
        record.report,
    )


def _counted(on_progress: Callable[[int, int], None], n_total: int) -> Callable[[BatchResult], None]:
    """Return a function that reports the progress after each batch."""
    n_done = 0

    def count(result: BatchResult) -> None:
        nonlocal n_done
        n_done += result.evaluations
        on_progress(n_done, n_total)

    return count


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


def _report(result: WeightSearchResult, *, member_trials: int, weight_vectors: int) -> FusionReport:
    left_out = result.leave_one_type_out
    return FusionReport(
        members=result.members,
        weights=result.weights,
        choices=dict(result.choices),
        score=result.score,
        member_trials=member_trials,
        weight_vectors=weight_vectors,
        equal_weights=result.equal_weights,
        leave_one_type_out=left_out.score if left_out else None,
        left_out={
            name: LeftOutReport(weights=item.weights, score=item.score)
            for name, item in (left_out.types if left_out else {}).items()
        },
    )
