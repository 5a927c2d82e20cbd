"""Evaluation of scored jobs."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asdbench.driver.judge_process import judge_process
from asdbench.engine.events import Failure
from asdbench.engine.job_store import DamagedFileError, JobStore
from asdbench.engine.jobs import ResolvedJob, job_label
from asdbench.engine.result_record import ResultRecord, SearchProvenance
from asdbench.engine.store_snapshot import StoreSnapshot
from asdbench.errors import InputError
from asdbench.report.leaderboard import row_settings


@dataclass(frozen=True, eq=False)
class Judged:
    """What has been judged: a system with settings and a seed, in a subset.

    Attributes
    ----------
    system, seed : the system and the seed
    settings : what distinguishes the rows of a system: changed settings, and data of pseudo-anomalies
    subset : ``"dev"`` or ``"eval"``
    records : result record by machine type
    """

    system: str
    seed: int
    settings: Mapping[str, object]
    subset: str
    records: Mapping[str, ResultRecord]


def judge(
    jobs: Sequence[ResolvedJob],
    jobs_store: JobStore,
    *,
    tuned: SearchProvenance | None = None,
) -> tuple[list[Judged], list[Failure], list[str]]:
    """Evaluate the jobs that are scored.

    Parameters
    ----------
    jobs : the jobs of a run
    jobs_store : where their scores are
    tuned : how a search chose their settings, if one did

    Returns
    -------
    judged
        One for each system, seed and subset, over all scored machine types.
    failures
        The jobs that could not be evaluated.
    notes
        What has no label to evaluate with.
    """
    from asdbench.engine.evaluation import NoLabels, evaluate

    groups: dict[tuple[str, int], list[ResolvedJob]] = {}
    snapshot = jobs_store.snapshot()
    for resolved in jobs:
        if snapshot.is_scored(resolved):
            groups.setdefault((resolved.job.system, resolved.job.seed), []).append(resolved)
    judged, failures = [], []
    notes: dict[str, None] = {}
    for group in groups.values():
        first = group[0]
        scored = _with_earlier_types(group, snapshot)
        for subset in first.data.subsets():
            records = {}
            for resolved in scored:
                machine = resolved.job.machine_type
                if subset not in first.data.subsets(machine):
                    continue
                try:
                    result = evaluate(resolved, jobs_store, subset=subset, tuned=tuned, judge=judge_process())
                except NoLabels as error:
                    notes[str(error)] = None
                except (InputError, DamagedFileError) as error:
                    is_bad_input = isinstance(error, InputError)
                    failures.append(Failure(job_label(resolved.job), str(error), bad_input=is_bad_input))
                else:
                    records[machine] = result.record
            if records:
                settings = row_settings(first.configured.changed(), first.job.pseudo_anomaly_data)
                judged.append(Judged(first.job.system, first.job.seed, settings, subset, records))
    return judged, failures, list(notes)


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
