"""Comparison of two systems on the same clips and seeds: the difference of their scores and its interval.

Idea: the difference of two official scores says little without its interval. `asdbench.metrics.bootstrap`
resamples clips, or recordings where they are known, the same for both systems; `asdbench.metrics.resampled`
adds what seeds vary. If the interval of the difference excludes zero, one system is better at that
confidence, on these machines. A second interval, on machines like these, resamples machine types too. The
same resamples give the intervals of a single system's score, which the leaderboard shows.

Conventions: rows hold fractions between 0 and 1; tables for people are in percent. A difference is the second
system's score minus the first's. Equal input gives equal intervals: the seed of the generator is fixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import first_subset, judged_scores, labeled_clips, labeled_types
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError
from asdbench.metrics import OFFICIAL, Rule
from asdbench.metrics.bootstrap import SectionScores, bootstrap, few_recordings, resampled_units
from asdbench.metrics.resampled import Interval, Resampled
from asdbench.metrics.units import Kind
from asdbench.report.formatting import MISSING, format_percent
from asdbench.report.interval_notes import (
    few_recordings_note,
    few_seeds_note,
    few_types_note,
    resampled_note,
)
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row, numeric
from asdbench.report.row_scores import row_jobs
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs

ALL = "all"  # machine type of the row over all machine types
BOOTSTRAP_SEED = 1
INTERVAL_ENDS = ("official_score_low", "official_score_high")
LIKE_THESE_ENDS = ("like_these_low", "like_these_high")
INTERVAL_KEYS = (*INTERVAL_ENDS, *LIKE_THESE_ENDS, "resampled", "few_recordings")


@dataclass(frozen=True)
class Comparison(Report):
    """The difference between the official scores of two systems, on each machine type and over all.

    Printed, it is a table in percent; ``rows`` and ``frame`` hold fractions between 0 and 1.

    Attributes
    ----------
    rows : one dict for each machine type and one for ``"all"``, the last: ``machine_type``; ``score_a``,
        ``score_b`` (means over seeds) with ``score_a_low`` and so on; ``difference`` (b − a),
        ``difference_low``, ``difference_high`` on these machines; the same with ``difference_like_these_``
        on machines like these, ``None`` for one machine type and below three; ``is_sure``; ``systems``,
        ``seeds``, ``subset``, ``resamples``, ``confidence``; ``resampled``, what was resampled of each
        machine type; ``few_recordings``, the number of recordings where they are too few
    title : heading of the table
    """

    rows: tuple[Row, ...]
    title: str

    @property
    def difference(self) -> float:
        """The second system's official score over all machine types minus the first's."""
        return float(self.rows[-1]["difference"])

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and upper end of the difference's interval."""
        return self.rows[-1]["difference_low"], self.rows[-1]["difference_high"]

    @property
    def is_significant(self) -> bool:
        """Whether the interval on these machines excludes zero, with at least three seeds."""
        return bool(self.rows[-1]["is_sure"])

    def tables(self) -> list[DisplayTable]:
        """Return the table, with the rows in bold whose difference is sure."""
        return [_display_table(self.rows, self.title)]


def compare(
    systems: tuple[str, str],
    data: DataSet,
    store: JobStore,
    *,
    seeds: Sequence[int] = (0,),
    settings: StoredRunOptions | None = None,
    subset: str | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two systems on each machine type with known labels, and on all of them in the last row.

    Parameters
    ----------
    systems
        The names of two systems whose scores are stored.
    data, store
        The data set that they scored, and the store that holds the scores.
    seeds, settings
        The runs whose scores to compare.
    subset
        ``"dev"`` or ``"eval"``; by default dev if any of its test clips has a known label, else eval.
    resamples, confidence
        The number of bootstrap resamples, and the confidence of the intervals.

    Raises
    ------
    InputError
        The two systems are the same, scores are not stored, no label is known, or the labels do not suffice
        for the metrics; ``resamples`` or ``confidence`` is out of range.
    """
    if systems[0] == systems[1]:
        raise InputError(f"{systems[0]} is compared with itself; name two different systems")
    subset = subset or first_subset(labeled_clips(data))
    machine_types = labeled_types(data, subset=subset)
    if not machine_types:
        raise InputError(
            f"no test clip of data set {data.name!r}{data.suffix(subset)} has a known label; "
            f"a comparison needs labels"
        )
    seeds = list(dict.fromkeys(seeds))
    jobs = scored_jobs(
        systems,
        data,
        store,
        seeds=seeds,
        machine_types=machine_types,
        settings=settings or StoredRunOptions(),
    )
    sections = section_scores([list(jobs[name].values()) for name in systems], store, subset=subset)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    overall, by_type = bootstrap(sections, generator, rule=data.rule, resamples=resamples)
    request = {
        "systems": list(systems),
        "seeds": seeds,
        "subset": subset,
        "resamples": resamples,
        "confidence": confidence,
        "resampled": resampled_units(sections),
        "few_recordings": few_recordings(sections),
    }
    results = (*by_type.items(), (ALL, overall))
    title = f"{systems[1]} against {systems[0]} on {data.name}{data.suffix(subset)}"
    return Comparison(
        tuple(_row(name, resampled, confidence) | request for name, resampled in results), title
    )


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

    ``runs`` holds the scored jobs by machine type, for each seed. Raises as `compare` does.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    sections = section_scores([runs], store, subset=subset)
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
    runs = list(row_jobs(row, data).values())
    return score_intervals(runs, store, rule=data.rule, subset=subset).columns()


def section_scores(
    systems: Sequence[Sequence[Mapping[str, ResolvedJob]]], store: JobStore, *, subset: str | None = None
) -> list[SectionScores]:
    """Return the scores and labels of each section, for systems with the same seeds and machine types."""
    sections = []
    for machine_type in systems[0][0]:
        tables = [
            [judged_scores(run[machine_type], store, subset=subset) for run in runs] for runs in systems
        ]
        scores = np.array([[table["score"].to_numpy() for table in of_system] for of_system in tables])
        clips = tables[0][0]  # all tables have the same clips in the same order
        target = (clips["domain"] == "target").fill_null(False).to_numpy()
        anomalous = clips["anomaly"].to_numpy()
        recordings = clips["recording"].to_numpy()
        for section in clips["section"].unique().sort():
            in_section = (clips["section"] == section).to_numpy()
            sections.append(
                SectionScores(
                    machine_type,
                    scores[:, :, in_section],
                    anomalous[in_section],
                    target[in_section],
                    recordings[in_section],
                )
            )
    return sections


def _row(machine_type: str, resampled: Resampled, confidence: float) -> Row:
    row: Row = {"machine_type": machine_type}
    for system, letter in enumerate("ab"):
        row[f"score_{letter}"] = float(resampled.observed[system])
        ends = resampled.interval(system, confidence=confidence)
        row[f"score_{letter}_low"], row[f"score_{letter}_high"] = ends
    row["difference"] = resampled.difference(0, 1)
    ends = resampled.difference_interval(0, 1, confidence=confidence)
    row["difference_low"], row["difference_high"] = ends
    like_these = resampled.difference_interval_like_these(0, 1, confidence=confidence)
    row["difference_like_these_low"], row["difference_like_these_high"] = like_these or (None, None)
    row["is_sure"] = resampled.is_sure(0, 1, confidence=confidence)
    return row


def _display_table(rows: Sequence[Row], title: str) -> DisplayTable:
    first, second = rows[0]["systems"]
    interval = f"{100 * rows[0]['confidence']:g} % interval"
    return DisplayTable(
        [
            Column("machine type"),
            *numeric(first, second, "difference", f"{interval}, these machines", "machines like these"),
        ],
        [
            DisplayRow(
                [
                    row["machine_type"],
                    format_percent(row["score_a"]),
                    format_percent(row["score_b"]),
                    format_percent(row["difference"], signed=True),
                    _interval_cell(row, "difference"),
                    _interval_cell(row, "difference_like_these"),
                ],
                is_bold=row["is_sure"],
                begins_section=row["machine_type"] == ALL,
            )
            for row in rows
        ],
        title,
        _caption(rows),
    )


def _interval_cell(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None:
        return MISSING
    return f"{format_percent(low, signed=True)} to {format_percent(high, signed=True)}"


def _caption(rows: Sequence[Row]) -> str:
    row = rows[0]
    first, second = row["systems"]
    seeds = row["seeds"]
    averaged = f"mean of seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]} only"
    sentences = (
        f"Official score in percent, {averaged}. Difference: {second} minus {first}; interval from "
        f"{row['resamples']:,} paired bootstrap resamples, and from what seeds vary.",
        resampled_note(row["resampled"]),
        few_recordings_note(row["few_recordings"]),
        few_types_note(len(rows) - 1) or "On machines like these: machine types are resampled too.",
        few_seeds_note(len(seeds)) or "Bold: the interval on these machines excludes zero.",
    )
    return " ".join(sentence for sentence in sentences if sentence)
