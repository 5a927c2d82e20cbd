"""What searches find: jobs with the best settings, and what tuning is worth on a type left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from asdbench import registry
from asdbench.driver.fresh_seeds import Candidate, candidates, fresh_seeds_table
from asdbench.engine.commands import fuse_command
from asdbench.engine.evaluation import training_records
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.result_record import SearchProvenance
from asdbench.engine.task_records import CurvePoint, TrainingRecord
from asdbench.errors import InputError
from asdbench.report.formatting import print_note
from asdbench.report.rendering import DisplayTable
from asdbench.report.searches import left_out_table
from asdbench.search.plan import Search, studies_for_system
from asdbench.search.space import NothingToSearch
from asdbench.search.studies import Study, Trial
from asdbench.search.trial_scores import jobs_with, mean_official_score, section_metrics_per_seed
from asdbench.tracking import searches as tracked
from asdbench.tracking.recorder import Recorder


@dataclass(frozen=True)
class StudyResult:
    """What a study has found.

    Attributes
    ----------
    study : the study
    best : its best trial
    jobs : with the best settings: on all machine types, or on the one left out; one for each fresh seed, or
        for each seed of the search if there is no fresh one
    candidates : what is compared with fresh seeds
    """

    study: Study
    best: Trial
    jobs: tuple[ResolvedJob, ...]
    candidates: tuple[Candidate, ...] = ()

    @classmethod
    def from_study(
        cls, study: Study, machine_types: Sequence[str], *, fresh_seeds: Sequence[int] = ()
    ) -> "StudyResult | None":
        """Return what a study has found, its jobs on ``machine_types``; ``None`` if no trial is complete."""
        best = study.best_trial()
        if best is None:
            return None
        wanted = machine_types if study.held_out is None else [study.held_out]
        jobs = jobs_with(study, study.settings(best), wanted, seeds=fresh_seeds or None)
        compared = candidates(study, best, fresh_seeds) if fresh_seeds else []
        return cls(study, best, tuple(resolved for of in jobs.values() for resolved in of), tuple(compared))

    @property
    def all_jobs(self) -> list[ResolvedJob]:
        """The jobs with the best settings, and those that they are compared with."""
        compared = [resolved for one in self.candidates for of in one.jobs.values() for resolved in of]
        return [*self.jobs, *compared]

    @property
    def tuned(self) -> SearchProvenance:
        """How its results are marked."""
        study = self.study
        return SearchProvenance(study.key, len(study.finished), study.protocol, study.seeds, self.best.score)


def _only_ensembles(jobs: Sequence[ResolvedJob]) -> InputError:
    """Return the error that there is no system to tune, with the command that searches fusion weights."""
    first = jobs[0]
    settings = {name: value for name, value in first.configured.changed().items() if name != "members"}
    command = fuse_command(
        first.job.system,
        [member.member_name for member in first.configured.members],
        first.job.data,
        seeds=list(dict.fromkeys(resolved.job.seed for resolved in jobs)),
        settings=settings,
        pseudo_anomaly_data=first.job.pseudo_anomaly_data,
    )
    return InputError(
        f"there is no system to tune: {first.job.system} is an ensemble and trains nothing; search its "
        f"weights with {command!r}"
    )


def studies_for_run(
    jobs: Sequence[ResolvedJob],
    search: Search,
    *,
    preset: str | None,
    settings: Mapping[str, Any],
    subset: str | None,
    console: Console,
) -> list[Study]:
    """Return the studies of all systems of a run but ensembles, as far as they are stored.

    Settings from the preset or the user are fixed. A system without anything to search is reported and left
    out. Raises as :func:`studies_for_system` does, and where no system is left.
    """
    if all(resolved.members for resolved in jobs):
        raise _only_ensembles(jobs)
    found, nothing = _studies_and_reasons(jobs, search, preset=preset, settings=settings, subset=subset)
    if not found:
        raise nothing[0]
    for error in nothing:
        print_note(console, str(error))
    return found


def stored_studies(
    jobs: Sequence[ResolvedJob],
    search: Search,
    *,
    preset: str | None,
    settings: Mapping[str, Any],
    subset: str | None,
) -> list[Study]:
    """Return the studies that another search of the same jobs would have, as far as they are stored.

    None where that search is impossible, since there are too few machine types.
    """
    try:
        return _studies_and_reasons(jobs, search, preset=preset, settings=settings, subset=subset)[0]
    except InputError:
        return []


def _studies_and_reasons(
    jobs: Sequence[ResolvedJob],
    search: Search,
    *,
    preset: str | None,
    settings: Mapping[str, Any],
    subset: str | None,
) -> tuple[list[Study], list[NothingToSearch]]:
    """Return the studies of all systems, as far as they are stored, and why others have none."""
    by_system: dict[str, list[ResolvedJob]] = {}
    for resolved in jobs:
        if not resolved.members:
            by_system.setdefault(resolved.job.system, []).append(resolved)
    found: list[Study] = []
    nothing: list[NothingToSearch] = []
    for of in by_system.values():
        configured = of[0].configured
        fixed = {name for name in settings if configured.accepts(name)}
        fixed |= registry.preset_settings(configured.name, preset).keys()
        try:
            found += studies_for_system(of, search, fixed=sorted(fixed), subset=subset)
        except NothingToSearch as reason:
            nothing.append(reason)
    for study in found:
        study.load(JobStore.from_workspace(study.data.workspace).retrying())
    return found, nothing


def record_trial(recorder: Recorder, store: JobStore, study: Study, trial: Trial, *, trials: int) -> None:
    """Record a trial that has ended, as a nested MLflow run with its curves."""
    start = study.space.start
    changed = {name: value for name, value in trial.parameters.items() if value != start[name]}
    curves: dict[str, Sequence[CurvePoint]] = {}
    if trial.types:  # else its settings may not go together
        jobs = jobs_with(study, study.settings(trial), list(trial.types))
        curves = {m: curve_of(training_records(resolved, store)) for m, (resolved, *_) in jobs.items()}
    searched = {setting.name for setting in study.space.settings}
    first = next(iter(jobs_with(study, start, study.machine_types[:1]).values()))[0]
    search = tracked.SearchRecord(
        key=study.key,
        system=study.system,
        data=study.data.name,
        subset="dev",
        protocol=study.protocol,
        held_out=study.held_out,
        settings={name: v for name, v in first.configured.changed().items() if name not in searched},
        seeds=study.seeds,
        trials=trials,
    )
    recorder.put_trial(
        search,
        tracked.TrialRecord(
            number=trial.number,
            settings=changed,
            state=trial.state,  # type: ignore[arg-type]
            rungs=list(enumerate(trial.rungs, start=1)),
            metrics=trial.types,
            curves=curves,
            began=trial.began_unix_s,
            ended=trial.ended_unix_s or trial.began_unix_s,
        ),
    )


def curve_of(trainings: Mapping[str, TrainingRecord]) -> Sequence[CurvePoint]:
    """Return a job's training curve; of several trainings with the trained system in the stage's name."""
    if len(trainings) == 1:
        return next(iter(trainings.values())).curve
    return [
        CurvePoint(f"{name} {point.stage}", point.epoch, point.losses)
        for name, record in trainings.items()
        for point in record.curve
    ]


def fresh_seeds_tables(found: Sequence[StudyResult], store: JobStore) -> list[DisplayTable]:
    """Return for each search the scores of its best settings with seeds that it did not see."""
    tables = [fresh_seeds_table(one.study, one.candidates, store) for one in found if one.candidates]
    return [table for table in tables if table is not None]


def left_out_tables(found: Sequence[StudyResult], store: JobStore) -> list[DisplayTable]:
    """Return for each system that was tuned without a machine type at a time what that is worth on those.

    The last row is the official score over all machine types, each with the settings that were found without
    it, next to that of the untuned system.
    """
    by_system: dict[str, list[StudyResult]] = {}
    snapshot = store.snapshot()
    for one in found:
        if one.study.held_out is not None and all(
            map(snapshot.is_scored, [*one.jobs, *_untuned_left_out(one)])
        ):
            by_system.setdefault(one.study.system, []).append(one)
    return [_left_out_table(of, store) for of in by_system.values()]


def _left_out_table(found: Sequence[StudyResult], store: JobStore) -> DisplayTable:
    first = found[0].study
    rule = first.data.rule
    rows, untuned, tuned = [], [], []
    for one in found:
        held_out, start = one.study.held_out, one.study.space.start
        assert held_out is not None
        untuned.append(section_metrics_per_seed(_untuned_left_out(one), store))
        tuned.append(section_metrics_per_seed(one.jobs, store))
        changed = {name: value for name, value in one.best.parameters.items() if value != start[name]}
        before, after = (mean_official_score([of[-1]], rule=rule) for of in (untuned, tuned))
        rows.append((held_out, before, after, changed))
    return left_out_table(
        f"{first.system} on {first.data.name}, leave-one-type-out, {len(first.finished)} trials each",
        rows,
        untuned=mean_official_score(untuned, rule=rule),
        tuned=mean_official_score(tuned, rule=rule),
        seeds=[resolved.seed for resolved in found[0].jobs],
    )


def _untuned_left_out(result: StudyResult) -> list[ResolvedJob]:
    """Return the jobs of the untuned system on the machine type that a study left out."""
    study = result.study
    assert study.held_out is not None
    seeds = [resolved.seed for resolved in result.jobs]
    return jobs_with(study, study.space.start, [study.held_out], seeds=seeds)[study.held_out]
