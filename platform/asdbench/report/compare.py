"""Comparison of two systems on the same clips and seeds: the difference of their scores and its interval.

Idea: the difference of two official scores says little without its interval. `asdbench.metrics.bootstrap`
resamples clips and seeds, the same for both systems; if the interval of the difference excludes zero, one
system is better at that confidence. The same resamples give the interval of a single system's score, which
the leaderboard shows.

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
from asdbench.metrics.bootstrap import Resampled, SectionScores, bootstrap
from asdbench.report.formatting import format_percent
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row, numeric
from asdbench.report.row_scores import row_jobs
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs

ALL = "all"  # machine type of the row over all machine types
BOOTSTRAP_SEED = 1
INTERVAL_ENDS = ("official_score_low", "official_score_high")


@dataclass(frozen=True)
class Comparison(Report):
    """The difference between the official scores of two systems, on each machine type and over all.

    Printed, it is a table in percent; ``rows`` and ``frame`` hold fractions between 0 and 1.

    Attributes
    ----------
    rows : one dict for each machine type and one for ``"all"``, the last: ``machine_type``; ``score_a``,
        ``score_b`` (means over seeds) with ``score_a_low`` and so on; ``difference`` (b − a),
        ``difference_low``, ``difference_high``; ``systems``, ``seeds``, ``subset``, ``resamples``,
        ``confidence``
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
        """Whether the interval excludes zero."""
        low, high = self.interval
        return low > 0 or high < 0

    def tables(self) -> list[DisplayTable]:
        """Return the table, with the rows in bold whose interval excludes zero."""
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
    }
    results = (*by_type.items(), (ALL, overall))
    title = f"{systems[1]} against {systems[0]} on {data.name}{data.suffix(subset)}"
    return Comparison(
        tuple(_row(name, resampled, confidence) | request for name, resampled in results), title
    )


def score_interval(
    runs: Sequence[Mapping[str, ResolvedJob]],
    store: JobStore,
    *,
    rule: Rule = OFFICIAL,
    subset: str | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the lower and upper end of the interval of a system's score over the given machine types.

    ``runs`` holds the scored jobs by machine type, for each seed. Raises as `compare` does.
    """
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    sections = section_scores([runs], store, subset=subset)
    overall, _ = bootstrap(sections, generator, rule=rule, resamples=resamples)
    return overall.interval(0, confidence=confidence)


def with_intervals(
    rows: Sequence[Row], data: DataSet, store: JobStore, *, subset: str | None = None
) -> list[Row]:
    """Return leaderboard rows of either kind with ``official_score_low`` and ``official_score_high`` added.

    Both are ``None`` where a row has no score or is published. ``subset`` is the subset of the rows.
    """
    return [row | dict(zip(INTERVAL_ENDS, _ends(row, data, store, subset), strict=True)) for row in rows]


def _ends(row: Row, data: DataSet, store: JobStore, subset: str | None) -> tuple[float | None, float | None]:
    if row["official_score"] is None or row.get("reference"):
        return None, None
    runs = list(row_jobs(row, data).values())
    return score_interval(runs, store, rule=data.rule, subset=subset)


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
        for section in clips["section"].unique().sort():
            in_section = (clips["section"] == section).to_numpy()
            sections.append(
                SectionScores(
                    machine_type, scores[:, :, in_section], anomalous[in_section], target[in_section]
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
    return row


def _display_table(rows: Sequence[Row], title: str) -> DisplayTable:
    first, second = rows[0]["systems"]
    interval = f"{100 * rows[0]['confidence']:g} % interval"
    return DisplayTable(
        [Column("machine type"), *numeric(first, second, "difference", interval)],
        [
            DisplayRow(
                [
                    row["machine_type"],
                    format_percent(row["score_a"]),
                    format_percent(row["score_b"]),
                    format_percent(row["difference"], signed=True),
                    f"{format_percent(row['difference_low'], signed=True)} to "
                    f"{format_percent(row['difference_high'], signed=True)}",
                ],
                is_bold=row["difference_low"] > 0 or row["difference_high"] < 0,
                begins_section=row["machine_type"] == ALL,
            )
            for row in rows
        ],
        title,
        _caption(rows),
    )


def _caption(rows: Sequence[Row]) -> str:
    first, second = rows[0]["systems"]
    seeds = rows[0]["seeds"]
    resampled = "clips and seeds" if len(seeds) > 1 else "clips"
    averaged = f"mean of seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]} only"
    return (
        f"Official score in percent, {averaged}. Difference: {second} minus {first}; interval from "
        f"{rows[0]['resamples']:,} paired bootstrap resamples of {resampled}. "
        f"Bold: the interval excludes zero."
    )
