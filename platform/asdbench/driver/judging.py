"""Evaluation of scored jobs, as runs to record."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from asdbench.engine.events import Failure
from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.jobs import ResolvedJob, job_label
from asdbench.engine.result_record import SearchProvenance
from asdbench.engine.store_snapshot import StoreSnapshot
from asdbench.errors import InputError

if TYPE_CHECKING:
    from asdbench.tracking.runs import Run


def judge(
    jobs: Sequence[ResolvedJob],
    jobs_store: JobStore,
    *,
    tuned: SearchProvenance | None = None,
) -> tuple["list[Run]", list[Failure], list[str]]:
    """Evaluate the jobs that are scored.

    Parameters
    ----------
    jobs : the jobs of a run
    jobs_store : where their scores are
    tuned : how a search chose their settings, if one did

    Returns
    -------
    runs
        One for each system, seed and subset, over all scored machine types.
    failures
        The jobs that could not be evaluated.
    notes
        What has no label to evaluate with.
    """
    from asdbench.driver.study_results import curve_of
    from asdbench.engine.evaluation import NoLabels, anomaly_scores, evaluate, labeled_types, training_records
    from asdbench.tracking.runs import Run

    groups: dict[tuple[str, int], list[ResolvedJob]] = {}
    snapshot = jobs_store.snapshot()
    for resolved in jobs:
        if snapshot.is_scored(resolved):
            groups.setdefault((resolved.job.system, resolved.job.seed), []).append(resolved)
    runs, failures = [], []
    notes: dict[str, None] = {}
    for group in groups.values():
        first = group[0]
        scored = _with_earlier_types(group, snapshot)
        for subset in first.data.subsets():
            results, scores, curves = {}, {}, {}
            for resolved in scored:
                machine = resolved.job.machine_type
                if subset not in first.data.subsets(machine):
                    continue
                try:
                    result = evaluate(resolved, jobs_store, subset=subset, tuned=tuned)
                    type_scores = anomaly_scores(resolved, jobs_store)
                    curve = curve_of(training_records(resolved, jobs_store))
                except NoLabels as error:
                    notes[str(error)] = None
                    continue
                except (InputError, DamagedFileError) as error:
                    is_bad_input = isinstance(error, InputError)
                    failures.append(Failure(job_label(resolved.job), str(error), bad_input=is_bad_input))
                    continue
                results[machine], scores[machine], curves[machine] = result, type_scores, curve
            if not results:
                continue
            runs.append(
                Run(
                    system=first.job.system,
                    settings=first.configured.values(),
                    changed_settings=first.configured.changed(),
                    data=first.data.name,
                    fingerprint=first.data.fingerprint(),
                    seed=first.job.seed,
                    complete=results.keys() >= set(labeled_types(first.data, subset=subset)),
                    records={machine: result.record for machine, result in results.items()},
                    keys={machine: result.key for machine, result in results.items()},
                    scores=scores,
                    curves=curves,
                    subset=subset,
                    tuned=msgspec.structs.asdict(tuned) if tuned else None,
                )
            )
    return runs, failures, list(notes)


def _with_earlier_types(group: Sequence[ResolvedJob], snapshot: StoreSnapshot) -> list[ResolvedJob]:
    """Return the jobs of a system and seed, including those of machine types that earlier runs scored."""
    first = group[0]
    by_type = {resolved.job.machine_type: resolved for resolved in group}
    for machine in first.data.machine_types:
        if machine not in by_type:
            other = dataclasses.replace(first, machine_type=machine)
            if snapshot.is_scored(other):
                by_type[machine] = other
    return [by_type[machine] for machine in sorted(by_type)]
