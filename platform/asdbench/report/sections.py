"""The sections of a report: text, tables and figures, from what `asdbench.report.report_data` collects.

Conventions: a section without content is left out. Every figure says in words what it shows, and comes with
a table of its values where these are few.
"""

import base64
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from asdbench.report.clip_errors import ClipError, ClipSound
from asdbench.report.figures import style
from asdbench.report.figures.clips import spectrogram
from asdbench.report.figures.embeddings import embedding_maps
from asdbench.report.figures.overview import (
    CostPoint,
    ScoredRow,
    cost_and_score,
    heat_map,
    pareto_front,
    score_intervals,
    significance,
)
from asdbench.report.figures.scores import roc_curves, score_histograms
from asdbench.report.figures.searches import TrialPoint, parameter_importances, search_history
from asdbench.report.figures.training import learning_curves
from asdbench.report.formatting import MISSING, format_count, format_percent, format_trials
from asdbench.report.leaderboard_table import markdown_table
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Row, numeric
from asdbench.report.report_data import ReportData, SearchSummary, SystemDetails
from asdbench.report.row_figures import histogram_of, loss_curves, mean_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure with the words that stand for it.

    Attributes
    ----------
    name : what distinguishes it in the report, from letters, digits and hyphens
    title, description : what a screen reader says
    figure : the figure
    """

    name: str
    title: str
    description: str
    figure: "Figure"


@dataclass(frozen=True)
class LegendEntry:
    """An entry of a legend that several panels share: the label, a color's name, and a line style's index."""

    label: str
    color: str
    dashes: int = 0
    shape: str = "line"


@dataclass(frozen=True, eq=False)
class Figures:
    """Figures with a caption: one, or a panel for each machine type.

    Attributes
    ----------
    drawings : the panels of the page
    caption : what they show
    whole : draws all panels as one figure, for PNG and PDF; without it each is a figure of its own
    legend : of all panels
    table : the values
    heading : above the panels; with ``is_open`` false, the page shows the panels when it is clicked
    is_open : whether the page shows the panels at once
    """

    drawings: Sequence[Drawing]
    caption: str
    whole: "Callable[[], Figure] | None" = None
    legend: Sequence[LegendEntry] = ()
    table: DisplayTable | None = None
    heading: str = ""
    is_open: bool = True


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip with its facts, spectrogram and sound."""

    heading: str
    facts: Sequence[tuple[str, str]]
    drawing: Drawing | None
    mp3: str


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips under a heading."""

    heading: str
    clips: Sequence[Clip]


Block: TypeAlias = Figures | Clips | DisplayTable


@dataclass(frozen=True, eq=False)
class Section:
    """A section of a report.

    Attributes
    ----------
    name : its anchor
    title : its heading
    paragraphs : text before the blocks
    blocks : figures, tables and clips
    """

    name: str
    title: str
    paragraphs: Sequence[str]
    blocks: Sequence[Block]


def sections(report: ReportData) -> list[Section]:
    """Return the sections of a report; those without content are left out."""
    builders = (
        _leaderboard,
        _machine_types,
        _significance,
        _roc,
        _histograms,
        _cost,
        _errors,
        _embeddings,
        _training,
        _searches,
    )
    return [section for build in builders for section in build(report)]


def slug(*parts: str) -> str:
    """Return a name for files and anchors.

    >>> slug("roc", "Toy Car/<b>")
    'roc-Toy-Car-b'
    """
    return re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-") or "x"


def _one(drawing: Drawing, caption: str, table: DisplayTable | None = None) -> Figures:
    return Figures([drawing], caption, table=table)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


# Comparisons


def _leaderboard(report: ReportData) -> Iterable[Section]:
    title = f"Leaderboard of {report.data.name}{report.data.suffix(report.subset)}"
    table = markdown_table(report.rows, title, report.data.rule)
    if not report.rows:
        yield Section("leaderboard", "Leaderboard", [table.caption], [])
        return
    scored = _scored_rows(report)
    blocks: list[Block] = []
    if scored:
        words = "; ".join(f"{row.label} {_percent(row.score)}{_interval(row)}" for row in scored)
        drawing = Drawing(
            "scores", "Official scores with 95 % confidence intervals", words, score_intervals(scored)
        )
        caption = (
            "Official score with its 95 % confidence interval, from a bootstrap over clips and seeds. "
            "Open circles are systems whose settings were tuned on development labels; open diamonds are "
            "published results."
        )
        blocks.append(_one(drawing, caption))
    yield Section("leaderboard", "Leaderboard", [], [*blocks, table])


def _interval(row: ScoredRow) -> str:
    return "" if row.low is None or row.high is None else f" ({_percent(row.low)} to {_percent(row.high)})"


def _scored_rows(report: ReportData) -> list[ScoredRow]:
    labels = iter(report.labels)
    scored = []
    for row in report.rows:
        is_published = bool(row["reference"])
        label = f"{row['system']} (published)" if is_published else next(labels)
        if row["official_score"] is not None:
            kind = "published" if is_published else "dev-tuned" if row["tuned"] else "measured"
            ends = row.get("official_score_low"), row.get("official_score_high")
            scored.append(ScoredRow(label, row["official_score"], *ends, kind))  # type: ignore[arg-type]
    return scored


def _key(row: Row) -> tuple[str, str, str]:
    return row["system"], str(row["settings"]), str(row["tuned"])


def _machine_types(report: ReportData) -> Iterable[Section]:
    labels = dict(zip((_key(row) for row in report.rows if not row["reference"]), report.labels, strict=True))
    scores = {(_key(row), row["machine_type"]): row["official_score"] for row in report.type_rows}
    if not scores:
        return
    types = list(report.machine_types)
    values = np.array([[scores.get((key, name), np.nan) for name in types] for key in labels])
    table = DisplayTable(
        [Column("system"), *numeric(*types)],
        [
            DisplayRow([label, *(format_percent(scores.get((key, name))) for name in types)])
            for key, label in labels.items()
        ],
        "Official score by machine type",
        "In percent, mean over seeds.",
    )
    measured = [place for place in range(len(types)) if np.isfinite(values[:, place]).any()]
    hardest = types[min(measured, key=lambda place: float(np.nanmean(values[:, place])))]
    words = (
        f"Scores of {len(labels)} rows on {len(types)} machine types, from {_percent(np.nanmin(values))} to "
        f"{_percent(np.nanmax(values))}; the lowest on average on {hardest}."
    )
    drawing = Drawing(
        "types", "Official score by machine type", words, heat_map(list(labels.values()), types, values)
    )
    caption = "Official score in percent, mean over seeds; the best of each machine type is bold."
    yield Section("types", "Machine types", [], [_one(drawing, caption, table)])


def _significance(report: ReportData) -> Iterable[Section]:
    pairs = report.differences
    if pairs is None:
        return
    count = len(pairs.labels)
    rows = [
        DisplayRow(
            [
                f"{pairs.labels[row]} − {pairs.labels[column]}",
                format_percent(pairs.differences[row, column], signed=True),
                f"{format_percent(pairs.low[row, column], signed=True)} to "
                f"{format_percent(pairs.high[row, column], signed=True)}",
            ],
            is_bold=pairs.is_significant(row, column),
        )
        for row in range(count)
        for column in range(row + 1, count)
    ]
    table = DisplayTable(
        [Column("pair"), *numeric("difference", "95 % interval")],
        rows,
        "Differences of the official score",
        "In percentage points. Bold: the interval excludes zero.",
    )
    n_pairs = count * (count - 1) // 2
    n_significant = sum(row.is_bold for row in rows)
    words = (
        f"Differences of {n_pairs} pairs of systems; the interval of {n_significant} of them excludes zero."
    )
    caption = (
        f"Official score of the row minus that of the column, in percentage points, over "
        f"{_common_seeds(report.difference_seeds)}, which all have. Filled: the 95 % interval of the paired "
        f"bootstrap over clips and seeds excludes zero. The intervals are not corrected for the number of "
        f"pairs."
    )
    drawing = Drawing("differences", "Differences between systems", words, significance(pairs))
    yield Section("differences", "Which differences are certain", [], [_one(drawing, caption, table)])


def _common_seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _cost(report: ReportData) -> Iterable[Section]:
    costs = (
        ("training", "training_seconds", "training time of all machine types", None),
        ("macs", "macs_per_clip", "multiply-accumulates per clip", format_count),
    )
    drawings = []
    for name, column, quantity, tick in costs:
        points = [
            CostPoint(of.label, of.row[column], of.row["official_score"])
            for of in report.systems
            if of.row["complete"] and of.row[column]
        ]
        if points:
            front = ", ".join(point.label for point in pareto_front(points))
            figure = cost_and_score(points, quantity=quantity, tick=tick)
            title, words = f"Official score over {quantity}", f"On the Pareto front: {front}."
            drawings.append(Drawing(f"cost-{name}", title, words, figure))
    if drawings:
        caption = (
            "Official score over what a system costs, on a logarithmic scale. Filled, on the dashed Pareto "
            "front: no other system is as good for less."
        )
        yield Section("cost", "Cost and score", [], [Figures(drawings, caption)])


# Scores of clips


def _roc(report: ReportData) -> Iterable[Section]:
    if not report.systems:
        return
    rule = report.data.rule
    scored = [(of.label, of_type, index) for index, of in enumerate(report.systems) for of_type in of.types]
    curves = {
        name: [
            replace(mean_curve(label, of_type, np.ones_like(of_type.anomalous)), series=index)
            for label, of_type, index in scored
            if of_type.machine_type == name
        ]
        for name in report.machine_types
        if any(of_type.machine_type == name for _, of_type, _ in scored)
    }
    drawings = [
        Drawing(
            slug("roc", str(place), machine_type),
            f"ROC curves on {machine_type}",
            "; ".join(
                f"{curve.label} finds {_percent(_at(curve.true_positive_rates, rule.max_fpr))} of the "
                f"anomalies at a false positive rate of {rule.max_fpr:g}"
                for curve in of_type
            ),
            roc_curves({machine_type: of_type}, max_fpr=rule.max_fpr, show_legend=False),
        )
        for place, (machine_type, of_type) in enumerate(curves.items())
    ]
    caption = (
        f"ROC curves over all clips of a machine type, mean over seeds and sections at each false positive "
        f"rate. The region up to {rule.max_fpr:g}, which counts for the pAUC, is shaded."
    )
    legend = [
        LegendEntry(of.label, f"series-{place % style.N_SERIES + 1}", place % style.N_SERIES)
        for place, of in enumerate(report.systems)
    ]
    whole = partial(roc_curves, curves, max_fpr=rule.max_fpr)
    yield Section("roc", "ROC curves", [], [Figures(drawings, caption, whole, legend)])


def _at(heights: np.ndarray, rate: float) -> float:
    from asdbench.report.figures.scores import false_positive_rates

    return float(np.interp(rate, false_positive_rates(), heights))


def _histograms(report: ReportData) -> Iterable[Section]:
    blocks = [
        Figures(
            [
                Drawing(
                    slug("histogram", str(place), str(index)),
                    f"Scores of {of.label} on {scored.machine_type}",
                    _histogram_words(of, index),
                    score_histograms([histogram_of(scored)], show_legend=False),
                )
                for index, scored in enumerate(of.types)
            ],
            f"Anomaly scores of {of.label}, seed {of.row['seeds'][0]}: source clips above the line, target "
            f"clips below it. The dashed line is the decision threshold, from normal training clips only.",
            partial(score_histograms, [histogram_of(scored) for scored in of.types]),
            [LegendEntry("normal", "normal", 0, "area"), LegendEntry("anomaly", "anomaly", 1, "area")],
            heading=of.label,
            is_open=place == 0,
        )
        for place, of in enumerate(report.systems)
    ]
    if blocks:
        yield Section("scores", "Scores and thresholds", [], blocks)


def _histogram_words(of: SystemDetails, index: int) -> str:
    scored = of.types[index]
    decided, anomalous = scored.decided[0], scored.anomalous
    return (
        f"Above the threshold of {scored.thresholds[0]:.3g} are {int((decided & anomalous).sum())} of "
        f"{int(anomalous.sum())} anomalies and {int((decided & ~anomalous).sum())} of "
        f"{int((~anomalous).sum())} normal clips."
    )


def _embeddings(report: ReportData) -> Iterable[Section]:
    shown = [of for of in report.systems if of.embeddings]
    blocks = [
        Figures(
            [
                Drawing(
                    slug("embedding", str(place), str(index)),
                    f"Embeddings of {of.label} on {mapped.machine_type}",
                    f"{len(mapped.points)} test clips; the two components explain "
                    f"{_percent(sum(mapped.explained))} of the variance.",
                    embedding_maps([mapped]),
                )
                for index, mapped in enumerate(of.embeddings)
            ],
            f"Test clips in the embedding of {of.label}, seed {of.row['seeds'][0]}: the first two principal "
            f"components (PC), with the share of the variance that each explains. Labels choose the colors "
            f"only.",
            partial(embedding_maps, of.embeddings),
            [
                LegendEntry("normal, source", "normal", 0, "ring"),
                LegendEntry("normal, target", "normal", 0, "dot"),
                LegendEntry("anomaly, source", "anomaly", 0, "triangle-open"),
                LegendEntry("anomaly, target", "anomaly", 0, "triangle"),
            ],
            heading=of.label,
            is_open=place == 0,
        )
        for place, of in enumerate(shown)
    ]
    if blocks:
        yield Section("embeddings", "Embeddings", [], blocks)


def _training(report: ReportData) -> Iterable[Section]:
    blocks: list[Block] = []
    shown: set[str] = set()
    for of in report.systems:
        trained = {name: str(record.description) for (name, _, _), record in of.trainings.items()}
        for name, curves in loss_curves(of.trainings).items():
            heading = name if name == of.row["system"] else f"{name} (of {of.label})"
            if trained[name] in shown:
                continue
            shown.add(trained[name])
            drawings = [
                Drawing(
                    slug("training", str(len(blocks)), str(index)),
                    f"{loss} of {name}",
                    f"{len(lines)} trainings; the mean goes from "
                    f"{np.mean([line.values[0] for line in lines]):.3g} to "
                    f"{np.mean([line.values[-1] for line in lines]):.3g}.",
                    learning_curves({loss: lines}),
                )
                for index, (loss, lines) in enumerate(curves.items())
            ]
            caption = f"Losses and monitors of {name} over the epochs, a line for each machine type and seed."
            blocks.append(
                Figures(
                    drawings, caption, partial(learning_curves, curves), heading=heading, is_open=not blocks
                )
            )
    if blocks:
        yield Section("training", "Learning curves", [], blocks)


# Searches


def _searches(report: ReportData) -> Iterable[Section]:
    blocks: list[Block] = []
    for place, search in enumerate(report.searches):
        blocks += _search(place, search)
    if blocks:
        text = (
            "Searches choose settings by the labels of development clips. Their scores are optimistic, "
            "and the leaderboard marks what they chose as dev-tuned."
        )
        yield Section("searches", "Searches", [text], blocks)


def _search(place: int, search: SearchSummary) -> list[Block]:
    record = search.record
    trials = [
        TrialPoint(trial.number, trial.rungs[-1], trial.state == "complete")
        for trial in record.trials
        if trial.rungs and trial.state in ("complete", "pruned")
    ]
    if not trials:
        return []
    name = record.system + (f" without {record.held_out}" if record.held_out else "")
    best = max((t for t in trials if t.is_complete), key=lambda t: (t.score, -t.number), default=None)
    words = f"{format_trials(len(trials))}" + (
        f"; the best is trial {best.number} with {_percent(best.score)}." if best else "; none is complete."
    )
    blocks: list[Block] = [
        _one(
            Drawing(f"search-{place}", f"Search of {name}", words, search_history(trials)),
            f"Search of {name}, {format_trials(record.trials_done)}, protocol {record.protocol}. Trial 0 is "
            f"the untuned system. A pruned trial is at its score over the machine types that it reached.",
        )
    ]
    if search.importances:
        shares = "; ".join(f"{key} {_percent(value)}" for key, value in search.importances.items())
        drawing = Drawing(
            f"importances-{place}",
            f"Importance of the parameters of {name}",
            shares,
            parameter_importances(search.importances),
        )
        caption = (
            f"Share of the variance of the score of {name} that each parameter explains (functional ANOVA "
            f"over the complete trials). Few trials make it a rough estimate."
        )
        blocks.append(_one(drawing, caption))
    return blocks


# Errors


def _errors(report: ReportData) -> Iterable[Section]:
    if not report.errors:
        return
    best = report.systems[0]
    headings = {False: "False alarms", True: "Missed anomalies"}
    blocks = [
        Clips(
            heading,
            [
                _clip(place, error, sound)
                for place, (error, sound) in enumerate(report.errors)
                if error.is_anomaly == is_anomaly
            ],
        )
        for is_anomaly, heading in headings.items()
        if any(error.is_anomaly == is_anomaly for error, _ in report.errors)
    ]
    text = (
        f"The test clips that {best.label} (seed {best.row['seeds'][0]}) gets most wrong: of each machine "
        f"type the false alarm and the missed anomaly farthest from the threshold, in standard deviations of "
        f"the scores of normal clips. The sound is compressed (MP3) and its level is normalized; the systems "
        f"heard the recording itself."
    )
    license = report.data.license
    note = (
        f"License of the recordings, as their folder says: {' '.join(license.split())}"
        if license
        else "The folder of the recordings states no license; ask their owner before you pass this page on."
    )
    yield Section("errors", "The worst errors", [text, note], blocks)


def _clip(place: int, error: ClipError, sound: ClipSound | None) -> Clip:
    kind = "Missed anomaly" if error.is_anomaly else "False alarm"
    facts = [
        ("recording", error.path),
        ("domain", error.domain or MISSING),
        ("attributes", error.attributes or MISSING),
        ("score", f"{error.score:.3g}, threshold {error.threshold:.3g}"),
        ("distance", f"{error.distance:.1f} standard deviations"),
    ]
    drawing = None
    if sound is not None:
        shown = (
            f"the first {sound.shown_s:.1f} s"
            if sound.shown_s < sound.duration_s
            else f"{sound.shown_s:.1f} s"
        )
        drawing = Drawing(
            f"clip-{place}",
            f"Log-mel spectrogram of {error.path}",
            f"{kind} of {error.machine_type}, {shown}.",
            spectrogram(sound.mels, duration_s=sound.shown_s, f_max_hz=8000.0),
        )
    mp3 = base64.b64encode(sound.mp3).decode() if sound is not None else ""
    return Clip(f"{kind}: {error.machine_type}", facts, drawing, mp3)
