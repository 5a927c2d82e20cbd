"""Fresh seeds: what a search found, its runners-up and the untuned system, with seeds that it did not see.

The highest of many scores is partly luck: of the seeds, and of the trial that had them. The trial that a
search chose is scored again with other seeds, and its score on the leaderboard is that one. It stays the
choice even if a runner-up is better with the fresh seeds, since choosing by these scores would make them
lucky again.

With the protocol leave-one-type-out the choice is scored with fresh seeds on the machine type that was left
out, without runners-up.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from asdbench.config import SettingValue
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.report.rendering import DisplayTable
from asdbench.report.searches import FreshRow, fresh_table
from asdbench.search.studies import Study, Trial
from asdbench.search.trial_scores import jobs_with, official_scores, section_metrics_per_seed

RUNNERS_UP = 2


@dataclass(frozen=True)
class Candidate:
    """Settings that are scored with fresh seeds.

    Attributes
    ----------
    role : ``"found"``, ``"runner-up"`` or ``"untuned"``
    changed : the searched settings that differ from the untuned system's
    score : the official score in the search; ``None`` if its trial is not complete
    jobs : by machine type, one for each fresh seed
    """

    role: str
    changed: Mapping[str, SettingValue]
    score: float | None
    jobs: Mapping[str, Sequence[ResolvedJob]]

    def scores(self, store: JobStore) -> list[float]:
        """Return the official score with each fresh seed; none if a job is not scored."""
        snapshot = store.snapshot()
        if not all(snapshot.is_scored(resolved) for of_type in self.jobs.values() for resolved in of_type):
            return []
        judged = [section_metrics_per_seed(of_type, store) for of_type in self.jobs.values()]
        first = next(iter(self.jobs.values()))[0]
        return official_scores(judged, rule=first.data.rule)


def fresh_seeds(jobs: Sequence[ResolvedJob], n_seeds: int) -> tuple[int, ...]:
    """Return the first seeds above all that the jobs of a run, or members of its ensembles, have."""
    highest = max(part.seed for resolved in jobs for part in resolved.parts)
    return tuple(range(highest + 1, highest + 1 + n_seeds))


def untuned_jobs(
    jobs: Sequence[ResolvedJob], studies: Sequence[Study], seeds: Sequence[int]
) -> list[ResolvedJob]:
    """Return those jobs of a run that are scored with fresh seeds: of tuned systems and of ensembles.

    Without a search there are none.
    """
    if not studies:
        return []
    tuned = {study.system for study in studies}
    return [
        replace(resolved, seed=seed)
        for resolved in jobs
        if resolved.seed == jobs[0].seed and (resolved.members or resolved.job.system in tuned)
        for seed in seeds
    ]


def n_candidates(study: Study, trials: int) -> int:
    """Return how many choices of settings a study of so many trials scores with fresh seeds, at most."""
    return min(trials, 2 if study.held_out is not None else 2 + RUNNERS_UP)


def candidates(study: Study, best: Trial, seeds: Sequence[int]) -> list[Candidate]:
    """Return what a study scores with fresh seeds, on the machine types whose scores it compares.

    These are the trial that it chose, the next best trials with other settings, and the untuned system.
    """
    if study.held_out is not None:
        return []
    untuned, start = study.untuned_trial(), study.space.start
    is_untuned = study.settings(best) == start
    chosen = [("found, untuned" if is_untuned else "found", best)]
    chosen += [("runner-up", trial) for trial in _runners_up(study, best)]
    found = [_candidate(study, role, trial.parameters, trial.score, seeds) for role, trial in chosen]
    score = None if untuned is None else untuned.score
    return found if is_untuned else [*found, _candidate(study, "untuned", {}, score, seeds)]


def _runners_up(study: Study, best: Trial) -> list[Trial]:
    """Return the next best complete trials, with settings unlike each other and the untuned ones."""
    known = [study.settings(best), dict(study.space.start)]
    found: list[Trial] = []
    complete = [trial for trial in study.trials if trial.state == "complete"]
    for trial in sorted(complete, key=lambda trial: (-trial.score, trial.number)):
        settings = study.settings(trial)
        if settings not in known and len(found) < RUNNERS_UP:
            found.append(trial)
            known.append(settings)
    return found


def _candidate(
    study: Study, role: str, parameters: Mapping[str, SettingValue], score: float | None, seeds: Sequence[int]
) -> Candidate:
    start = study.space.start
    changed = {name: value for name, value in parameters.items() if value != start[name]}
    jobs = jobs_with(study, {**start, **parameters}, study.machine_types, seeds=seeds)
    return Candidate(role, changed, score, jobs)


def fresh_seeds_table(study: Study, scored: Sequence[Candidate], store: JobStore) -> DisplayTable | None:
    """Return the scores in the search next to those with fresh seeds; ``None`` without any."""
    rows = [FreshRow(one.role, one.changed, one.score, one.scores(store)) for one in scored]
    if not any(row.scores for row in rows):
        return None
    seeds = [resolved.seed for resolved in next(iter(scored[0].jobs.values()))]
    better = [row for row in rows if row.role == "runner-up" and _mean(row) > _mean(rows[0])]
    return fresh_table(
        f"{study.system} on {study.data.name}, with seeds that the search did not see",
        rows,
        seeds=seeds,
        searched_seeds=study.seeds,
        is_surpassed=bool(better),
    )


def _mean(row: FreshRow) -> float:
    return statistics.fmean(row.scores) if row.scores else 0.0
