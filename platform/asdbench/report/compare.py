"""Two systems on the same clips and seeds: how far apart they are, and how sure that is.

Idea: the difference of two official scores says little without its interval. `asdbench.metrics.bootstrap`
draws clips and seeds anew, the same for both systems; where the interval of the difference holds no zero, one
system is better at that confidence. The same resamples give the interval of a system's own score, which the
leaderboard shows.

Conventions: rows hold fractions between 0 and 1; what a person reads is in percent. A difference is the
second system's score less the first's. Equal input gives equal intervals: the generator's seed is fixed.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import first_subset, judged_scores, labeled_clips, labeled_types
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.errors import InputError, unknown_name
from asdbench.metrics import OFFICIAL, Rule
from asdbench.metrics.bootstrap import Resampled, SectionScores, bootstrap
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs

Row = dict[str, Any]
Format = Literal["table", "csv", "json", "markdown"]

ALL = "all"  # the row over all machine types
_SEED = 1
_ENDS = ("official_score_low", "official_score_high")


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
) -> list[Row]:
    """Return a row for each machine type with known labels and one, the last, over all of them.

    Parameters
    ----------
    systems
        The names of two systems whose scores are stored.
    data, store
        The data set that they scored, and where.
    seeds, settings
        Of which runs the scores are.
    subset
        ``"dev"`` or ``"eval"``; dev if any of its test clips has a known label, else eval, if not given.
    resamples, confidence
        How often clips and seeds are drawn, and the confidence of the intervals.

    Returns
    -------
    list of dict
        ``machine_type``; ``score_a``, ``score_b`` (means over seeds) with ``score_a_low`` and so on;
        ``difference`` (b − a), ``difference_low``, ``difference_high``; ``systems``, ``seeds``, ``subset``,
        ``resamples``, ``confidence``.

    Raises
    ------
    InputError
        Both systems are one, scores are not stored, no label is known, or the labels allow no metric.
    """
    if systems[0] == systems[1]:
        raise InputError(f"{systems[0]} is compared with itself; name two systems")
    subset = subset or first_subset(labeled_clips(data))
    machine_types = labeled_types(data, subset=subset)
    if not machine_types:
        raise InputError(
            f"no test clip of data set {data.name!r}{data.suffix(subset)} has a known label; "
            f"scores need labels to compare"
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
    generator = np.random.default_rng(_SEED)
    overall, by_type = bootstrap(sections, generator, rule=data.rule, resamples=resamples)
    facts = {
        "systems": list(systems),
        "seeds": seeds,
        "subset": subset,
        "resamples": resamples,
        "confidence": confidence,
    }
    return [_row(name, of, confidence) | facts for name, of in (*by_type.items(), (ALL, overall))]


def score_interval(
    runs: Sequence[Mapping[str, ResolvedJob]],
    store: JobStore,
    *,
    rule: Rule = OFFICIAL,
    subset: str | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the lower and the upper end of the interval of a system's score over all machine types given.

    ``runs`` holds for each seed the scored jobs by machine type. Raises as `compare` does.
    """
    generator = np.random.default_rng(_SEED)
    sections = section_scores([runs], store, subset=subset)
    overall, _ = bootstrap(sections, generator, rule=rule, resamples=resamples)
    return overall.interval(0, confidence=confidence)


def with_intervals(
    rows: Sequence[Row], data: DataSet, store: JobStore, *, subset: str | None = None
) -> list[Row]:
    """Return leaderboard rows of either kind with ``official_score_low`` and ``official_score_high``.

    Both are ``None`` where there is no score. ``subset`` is that of the rows.
    """
    return [row | dict(zip(_ENDS, _ends(row, data, store, subset), strict=True)) for row in rows]


def _ends(row: Row, data: DataSet, store: JobStore, subset: str | None) -> tuple[float | None, float | None]:
    if row["official_score"] is None:
        return None, None
    settings = {name: value for name, value in row["settings"].items() if name != "pseudo_anomaly_data"}
    pseudo_anomaly_data = row["settings"].get("pseudo_anomaly_data")
    machine_types = [row["machine_type"]] if "machine_type" in row else row["machine_types_done"]
    runs = [
        {
            machine_type: ResolvedJob.from_job(
                Job(row["system"], settings, data.name, machine_type, seed, pseudo_anomaly_data),
                data,
            )
            for machine_type in machine_types
        }
        for seed in row["seeds"]
    ]
    return score_interval(runs, store, rule=data.rule, subset=subset)


def section_scores(
    systems: Sequence[Sequence[Mapping[str, ResolvedJob]]], store: JobStore, *, subset: str | None = None
) -> list[SectionScores]:
    """Return the judged scores of each section, of systems with as many seeds and the same machine types."""
    sections = []
    for machine_type in systems[0][0]:
        tables = [
            [judged_scores(run[machine_type], store, subset=subset) for run in runs] for runs in systems
        ]
        scores = np.array([[table["score"].to_numpy() for table in of_system] for of_system in tables])
        clips = tables[0][0]  # the same in all, in the same order
        target = (clips["domain"] == "target").fill_null(False).to_numpy()
        anomalous = clips["anomaly"].to_numpy()
        for section in clips["section"].unique().sort():
            own = (clips["section"] == section).to_numpy()
            sections.append(SectionScores(machine_type, scores[:, :, own], anomalous[own], target[own]))
    return sections


def render(rows: Sequence[Row], *, format: Format, title: str, console: Console | None = None) -> str | None:
    """Print a table (and return ``None``), or return the rows as CSV, JSON or markdown.

    Raises :class:`InputError` for an unknown format.
    """
    if format == "json":
        return json.dumps(rows, indent=2, allow_nan=False)
    if format == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow(" ".join(map(str, v)) if isinstance(v, list) else v for v in row.values())
        return text.getvalue()
    headers, cells = _cells(rows)
    if format == "markdown":
        lines = [headers, [":--", *["--:"] * (len(headers) - 1)], *cells]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{title}**\n\n{body}\n\n{_caption(rows)}\n"
    if format != "table":
        raise unknown_name("format", format, ("table", "csv", "json", "markdown"))
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=_caption(rows),
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
    )
    for place, header in enumerate(headers):
        table.add_column(Text(header), justify="right" if place else "left", overflow="fold")
    for row, line in zip(rows, cells, strict=True):
        if row["machine_type"] == ALL:
            table.add_section()
        sure = row["difference_low"] > 0 or row["difference_high"] < 0
        table.add_row(*map(Text, line), style="bold" if sure else "")
    (console or Console()).print(table)
    return None


def _row(machine_type: str, of: Resampled, confidence: float) -> Row:
    row: Row = {"machine_type": machine_type}
    for system, letter in enumerate("ab"):
        row[f"score_{letter}"] = float(of.observed[system])
        ends = of.interval(system, confidence=confidence)
        row[f"score_{letter}_low"], row[f"score_{letter}_high"] = ends
    row["difference"] = of.difference(0, 1)
    row["difference_low"], row["difference_high"] = of.difference_interval(0, 1, confidence=confidence)
    return row


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    first, second = rows[0]["systems"]
    headers = ["machine type", first, second, "difference", f"{100 * rows[0]['confidence']:g} % interval"]
    cells = [
        [
            row["machine_type"],
            f"{100 * row['score_a']:.2f}",
            f"{100 * row['score_b']:.2f}",
            f"{100 * row['difference']:+.2f}",
            f"{100 * row['difference_low']:+.2f} to {100 * row['difference_high']:+.2f}",
        ]
        for row in rows
    ]
    return headers, cells


def _caption(rows: Sequence[Row]) -> str:
    first, second = rows[0]["systems"]
    seeds = rows[0]["seeds"]
    drawn = "clips and seeds" if len(seeds) > 1 else "clips"
    told = f"mean of seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]} alone"
    return (
        f"Official score in percent, {told}. Difference: {second} less {first}; interval by "
        f"{rows[0]['resamples']:,} paired bootstrap resamples of {drawn}, bold where it holds no zero."
    )
