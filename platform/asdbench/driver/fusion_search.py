"""Search for the fusion weights of an ensemble, from stored scores.

No model runs. The same search runs in this process (``asdbench fuse``) and on a cluster (a sweep), with equal
results. It is stored like any other search, under ``searches/`` in the job store, and the ensemble's results
with its weights are marked dev-tuned, with the number of trials of the members' searches and, apart from
these, the number of weight vectors that were evaluated.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from asdbench import registry
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.nested_fusion import nested_report
from asdbench.engine.evaluation import labeled_clips, result_key, truth_of_type
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, key_of
from asdbench.engine.result_record import SearchProvenance
from asdbench.engine.search_record import (
    BestWeights,
    FusionRecord,
    FusionReport,
    LeftOutReport,
    NestedReport,
    load_fusion,
    save_search,
)
from asdbench.engine.stored_results import searched_settings
from asdbench.errors import InputError
from asdbench.search.fusion import (
    BatchResult,
    RunStudies,
    WeightSearchResult,
    run_in_turn,
    search_weights,
    weight_studies,
)
from asdbench.search.fusion_problem import FusionProblem, fusion_problem

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
    notes : what gives the estimates that the report lacks
    """

    ensemble: registry.Configured
    tuned: SearchProvenance
    jobs: tuple[ResolvedJob, ...]
    report: FusionReport
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MemberTuning:
    """How labels have chosen the settings of an ensemble's members.

    Attributes
    ----------
    trials : of each search that chose settings of members with the labels of all machine types, by its key
    nested : the ensemble with members tuned without a machine type, for each; empty if none is tuned so
    without_estimate, cure : why there is no estimate for an unseen machine type, and what gives one
    """

    trials: Mapping[str, int] = field(default_factory=dict)
    nested: Mapping[str, registry.Configured] = field(default_factory=dict)
    without_estimate: str | None = None
    cure: str | None = None

    @property
    def is_tuned(self) -> bool:
        """Whether labels of all machine types have chosen settings of a member."""
        return bool(self.trials)


UNTUNED = MemberTuning()


def searches_of_members(ensemble: registry.Configured, data: DataSet, store: JobStore) -> dict[str, int]:
    """Return the stored searches that chose settings that members have: their trials by their keys."""
    members = [(member.name, member.values()) for member in ensemble.members]
    return {
        item.tuned.search: item.tuned.trials
        for item in reversed(searched_settings(store, data)[0])
        if (item.configured.name, item.configured.values()) in members
    }


def search_fusion_weights(
    ensemble: registry.Configured,
    data: DataSet,
    store: JobStore,
    *,
    seeds: Sequence[int],
    pseudo_anomaly_data: str | None,
    evaluations: int = EVALUATIONS,
    seed: int = 0,
    tuning: MemberTuning = UNTUNED,
    scored_seeds: Sequence[int] = (),
    run_studies: RunStudies = run_in_turn,
    on_progress: Callable[[int, int], None] | None = None,
) -> FusionResult:
    """Search the weights of an ensemble's members, or load those of an earlier, equal search.

    An equal search has the same members' scores, labels, number of evaluations and seed. Machine types are
    left out, and equal weights compared, only where no label that counts has chosen settings of members.

    Parameters
    ----------
    ensemble : with its members as they have run
    data, store : the data set, and the store of the members' scores
    seeds : of the members
    pseudo_anomaly_data : data set of the pseudo-anomalies, if not ``data``
    evaluations : number of weight vectors that each study evaluates
    seed : of the search
    tuning : how labels have chosen the settings of members
    scored_seeds : seeds of the jobs that are returned, and of the nested estimate (default: ``seeds``)
    run_studies : runs the weight studies; by default in this process
    on_progress : called with the number of weight vectors evaluated so far and in total, if the studies run
        in this process

    Raises
    ------
    InputError
        As `fusion_problem` and `search_weights` do.
    """
    run = _Run(
        data, store, seeds, tuple(scored_seeds or seeds), pseudo_anomaly_data, evaluations, seed, run_studies
    )
    problem = fusion_problem(ensemble, data, store, seeds=seeds, pseudo_anomaly_data=pseudo_anomaly_data)
    description = {
        "revision": _REVISION,
        "untuned": run.result_keys(ensemble, problem.machine_types),
        "evaluations": evaluations,
        "seed": seed,
        "batch": _BATCH,
    }
    key = key_of(description)
    stored = load_fusion(store, key)
    if stored is None or (stored.report.equal_weights is None and not tuning.is_tuned):
        logger.info("searching the weights of %s: %d evaluations per study", ensemble.name, evaluations)
        record = run.search(ensemble, problem, description, tuning, on_progress)
    else:
        logger.info("the weights of %s are stored as search %s", ensemble.name, key)
        record = stored
    record, cure = run.with_estimate(record, tuning)
    if record != stored:
        save_search(store, key, record)
    tuned = registry.configure(ensemble.name, dict(record.best.settings))
    jobs = run.jobs(tuned, data.machine_types, run.scored_seeds)
    snapshot = store.snapshot()
    report = record.report
    return FusionResult(
        tuned,
        SearchProvenance(
            key, report.member_trials, record.protocol, record.seeds, record.best.score, report.weight_vectors
        ),
        tuple(resolved for resolved in jobs if snapshot.is_scored(resolved)),
        report,
        (f"{ensemble.name}: {cure}",) if cure else (),
    )


@dataclass(frozen=True)
class _Run:
    """What the steps of a fusion search share; the parameters of `search_fusion_weights`."""

    data: DataSet
    store: JobStore
    seeds: Sequence[int]
    scored_seeds: tuple[int, ...]
    pseudo_anomaly_data: str | None
    evaluations: int
    seed: int
    run_studies: RunStudies

    def jobs(
        self, ensemble: registry.Configured, machine_types: Sequence[str], seeds: Sequence[int]
    ) -> list[ResolvedJob]:
        """Return the jobs of an ensemble."""
        return [
            ResolvedJob.from_configured(
                ensemble, self.data, machine_type, seed=seed, pseudo_anomaly_data=self.pseudo_anomaly_data
            )
            for machine_type in machine_types
            for seed in dict.fromkeys(seeds)
        ]

    def result_keys(
        self,
        ensemble: registry.Configured,
        machine_types: Sequence[str],
        seeds: Sequence[int] | None = None,
    ) -> list[str]:
        """Return the names of an ensemble's results, which hash all that they depend on."""
        labeled = labeled_clips(self.data, subset="dev")
        jobs = self.jobs(ensemble, machine_types, self.seeds if seeds is None else seeds)
        return [
            result_key(resolved, truth_of_type(labeled, resolved.machine_type), subset="dev")
            for resolved in jobs
        ]

    def search(
        self,
        ensemble: registry.Configured,
        problem: FusionProblem,
        description: Mapping[str, object],
        tuning: MemberTuning,
        on_progress: Callable[[int, int], None] | None,
    ) -> FusionRecord:
        """Search the weights."""
        n_total = self.evaluations * (1 if tuning.is_tuned else len(weight_studies(problem)))
        result = search_weights(
            problem,
            evaluations=self.evaluations,
            batch=_BATCH,
            seed=self.seed,
            run_studies=self.run_studies,
            on_batch=None if on_progress is None else _counted(on_progress, n_total),
            leaves_types_out=not tuning.is_tuned,
        )
        return FusionRecord(
            system=ensemble.name,
            data=self.data.name,
            subset="dev",
            protocol="dev",
            held_out=None,
            pseudo_anomaly_data=self.pseudo_anomaly_data,
            start=ensemble.changed(),
            seeds=tuple(dict.fromkeys(self.seeds)),
            description=dict(description),
            best=BestWeights(result.score, {**ensemble.changed(), **result.settings}),
            report=_report(result, self._chosen_on_labels(ensemble), weight_vectors=self.evaluations),
        )

    def _chosen_on_labels(self, ensemble: registry.Configured) -> list[str]:
        return [m.member_name for m in ensemble.members if self.data.name in m.chosen_on()]

    def with_estimate(self, record: FusionRecord, tuning: MemberTuning) -> tuple[FusionRecord, str | None]:
        """Return a record with what can be said about an unseen machine type, and the members' trials.

        If that is nothing, what would give an estimate is returned, too.
        """
        report = msgspec.structs.replace(record.report, member_trials=sum(tuning.trials.values()))
        if tuning.is_tuned:
            report = msgspec.structs.replace(report, equal_weights=None, leave_one_type_out=None, left_out={})
        nested, nested_key = record.report.nested, record.nested_key
        reason, cure = tuning.without_estimate, tuning.cure
        wanted = self._nested_key(tuning)
        if wanted != nested_key:
            nested, nested_key = None, wanted
        if wanted is not None and nested is None:
            try:
                nested = self._nested(tuning)
            except InputError as error:  # scores of a member are missing
                nested_key, cure = None, str(error)
                reason = (
                    "There is no estimate for an unseen machine type, since scores of members are missing."
                )
        report = msgspec.structs.replace(
            report, nested=nested, without_estimate=None if nested is not None else reason
        )
        record = msgspec.structs.replace(record, report=report, nested_key=nested_key)
        return record, None if nested is not None else cure

    def _nested_key(self, tuning: MemberTuning) -> str | None:
        """Return a hash of what a nested estimate depends on; ``None`` if there is none."""
        if not tuning.nested:
            return None
        keys = {}
        for held_out, ensemble in tuning.nested.items():
            others = [name for name in tuning.nested if name != held_out]
            scored = self.result_keys(ensemble, [held_out], self.scored_seeds)
            keys[held_out] = self.result_keys(ensemble, others) + scored
        return key_of({"keys": keys, "evaluations": self.evaluations, "seed": self.seed, "batch": _BATCH})

    def _nested(self, tuning: MemberTuning) -> NestedReport:
        return nested_report(
            tuning.nested,
            self.data,
            self.store,
            seeds=self.seeds,
            scored_seeds=self.scored_seeds,
            pseudo_anomaly_data=self.pseudo_anomaly_data,
            evaluations=self.evaluations,
            batch=_BATCH,
            seed=self.seed,
            run_studies=self.run_studies,
        )


def _counted(on_progress: Callable[[int, int], None], n_total: int) -> Callable[[BatchResult], None]:
    """Return a function that reports the progress after each batch."""
    n_done = 0

    def count(result: BatchResult) -> None:
        nonlocal n_done
        n_done += result.evaluations
        on_progress(n_done, n_total)

    return count


def _report(
    result: WeightSearchResult, chosen_on_labels: Sequence[str], *, weight_vectors: int
) -> FusionReport:
    left_out = result.leave_one_type_out
    return FusionReport(
        members=result.members,
        weights=result.weights,
        choices=dict(result.choices),
        score=result.score,
        member_trials=0,
        weight_vectors=weight_vectors,
        chosen_on_labels=tuple(chosen_on_labels),
        equal_weights=result.equal_weights,
        leave_one_type_out=left_out.score if left_out else None,
        left_out={
            name: LeftOutReport(item.weights, item.score, dict(item.choice))
            for name, item in (left_out.types if left_out else {}).items()
        },
    )
