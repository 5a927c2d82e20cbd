"""Intervals of the official scores of leaderboard rows, and the scores that they are made of.

Idea: a score says little without its interval. `asdbench.metrics.bootstrap` resamples clips, or recordings
where they are known; `asdbench.metrics.resampled` adds what seeds vary. A second interval, on machines like
these, resamples machine types too. `asdbench.report.comparison` makes differences of the same scores.

Conventions: rows hold fractions between 0 and 1. Equal input gives equal intervals: the seed of the generator
is fixed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import polars as pl

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import judged_scores
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.metrics import OFFICIAL, Rule
from asdbench.metrics.bootstrap import SectionScores, bootstrap, few_recordings, resampled_units
from asdbench.metrics.resampled import Interval, Resampled
from asdbench.metrics.units import Kind
from asdbench.report.imported_results import row_tables
from asdbench.report.rendering import Row
from asdbench.report.row_scores import row_jobs

RunTables: TypeAlias = Mapping[str, pl.DataFrame]
"""The judged test clips of a run by machine type: the columns of `labeled_clips`, and ``score``."""

BOOTSTRAP_SEED = 1
INTERVAL_ENDS = ("official_score_low", "official_score_high")
LIKE_THESE_ENDS = ("like_these_low", "like_these_high")
INTERVAL_KEYS = (*INTERVAL_ENDS, *LIKE_THESE_ENDS, "resampled", "few_recordings")


@dataclass(frozen=True)
class ScoreIntervals:
    """The intervals of a system's official score.

    Attributes
    ----------
    these : on these machines
    like_these : on machines like these; ``None`` below three machine types
    resampled : what was resampled of each machine type
    few_recordings : the machine types whose interval is rough, with the number of recordings
    """

    these: Interval
    like_these: Interval | None
    resampled: Mapping[str, Kind]
    few_recordings: Mapping[str, int]

    @classmethod
    def of_system(
        cls,
        system: int,
        overall: Resampled,
        sections: Sequence[SectionScores],
        *,
        confidence: float = 0.95,
    ) -> "ScoreIntervals":
        """Return the intervals of one of the systems of a bootstrap over sections."""
        return cls(
            overall.interval(system, confidence=confidence),
            overall.interval_like_these(system, confidence=confidence),
            resampled_units(sections),
            few_recordings(sections),
        )

    def columns(self) -> Row:
        """Return the keys that they have in a row of a leaderboard."""
        ends = (*self.these, *(self.like_these or (None, None)))
        values = (*ends, dict(self.resampled), dict(self.few_recordings))
        return dict(zip(INTERVAL_KEYS, values, strict=True))


def score_intervals(
    runs: Sequence[Mapping[str, ResolvedJob]],
    store: JobStore,
    *,
    rule: Rule = OFFICIAL,
    subset: str | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> ScoreIntervals:
    """Return the intervals of a system's score over the given machine types.

    ``runs`` holds the scored jobs by machine type, for each seed. Raises :class:`InputError`
    as `asdbench.metrics.bootstrap.bootstrap` does.
    """
    tables = run_tables(runs, store, subset=subset)
    return table_intervals(tables, rule=rule, resamples=resamples, confidence=confidence)


def table_intervals(
    runs: Sequence[RunTables], *, rule: Rule = OFFICIAL, resamples: int = 2000, confidence: float = 0.95
) -> ScoreIntervals:
    """Return the intervals of a score over the given machine types, from the judged clips of each run."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    sections = section_scores([runs])
    overall, _ = bootstrap(sections, generator, rule=rule, resamples=resamples)
    return ScoreIntervals.of_system(0, overall, sections, confidence=confidence)


def with_intervals(
    rows: Sequence[Row], data: DataSet, store: JobStore, *, subset: str | None = None
) -> list[Row]:
    """Return leaderboard rows of either kind with their intervals added.

    These are ``official_score_low`` and ``official_score_high`` on these machines, ``like_these_low`` and
    ``like_these_high`` on machines like these, ``resampled`` (what was, of each machine type) and
    ``few_recordings`` (where they are too few). All are ``None`` where a row has no score or is published.
    ``subset`` is the subset of the rows.
    """
    return [row | _interval_columns(row, data, store, subset) for row in rows]


def _interval_columns(row: Row, data: DataSet, store: JobStore, subset: str | None) -> Row:
    if row["official_score"] is None or row.get("reference"):
        return dict.fromkeys(INTERVAL_KEYS)
    if row.get("imported"):
        return table_intervals(row_tables(row, data, subset), rule=data.rule).columns()
    runs = list(row_jobs(row, data).values())
    return score_intervals(runs, store, rule=data.rule, subset=subset).columns()


def run_tables(
    jobs: Iterable[Mapping[str, ResolvedJob]], store: JobStore, *, subset: str | None = None
) -> list[RunTables]:
    """Return the judged scores of runs, from the jobs of each by machine type."""
    return [
        {name: judged_scores(resolved, store, subset=subset) for name, resolved in run.items()}
        for run in jobs
    ]


def section_scores(systems: Sequence[Sequence[RunTables]]) -> list[SectionScores]:
    """Return the scores and labels of each section, for the runs of systems on the same machine types."""
    sections = []
    for machine_type, clips in systems[0][0].items():  # all tables have the same clips in the same order
        scores = [
            np.array([run[machine_type]["score"].to_numpy() for run in of_system]) for of_system in systems
        ]
        target = (clips["domain"] == "target").fill_null(False).to_numpy()
        anomalous = clips["anomaly"].to_numpy()
        recordings = clips["recording"].to_numpy()
        for section in clips["section"].unique().sort():
            in_section = (clips["section"] == section).to_numpy()
            sections.append(
                SectionScores(
                    machine_type,
                    [of_system[:, in_section] for of_system in scores],
                    anomalous[in_section],
                    target[in_section],
                    recordings[in_section],
                )
            )
    return sections
