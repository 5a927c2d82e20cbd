"""The leaderboard for people: its columns, its caption, and which values are the best."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.text import Text

from asdbench.metrics import OFFICIAL, Rule
from asdbench.metrics.threshold import binomial_interval
from asdbench.metrics.units import Kind
from asdbench.report import rendering
from asdbench.report.formatting import (
    MISSING,
    format_count,
    format_duration,
    format_number,
    format_percent,
    format_search,
    format_settings,
)
from asdbench.report.fresh_scores import has_seen_seeds, score_in_search
from asdbench.report.interval_notes import few_recordings_note, few_types_note, listed_kinds, resampled_note
from asdbench.report.leaderboard import is_by_another_rule
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Format, Row, numeric
from asdbench.report.row_versions import CAPTION, version_labels

METRIC_NAMES = {  # the display name of every metric that a rule may have
    "auc": "AUC",
    "auc_source": "AUC source",
    "auc_target": "AUC target",
    "pauc": "pAUC",
    "pauc_source": "pAUC source",
    "pauc_target": "pAUC target",
}


CHOSEN_ON_LABELS = "chosen on this data's labels"
TRANSDUCTIVE = "transductive"
IN_SEARCH, SEEDS_OF_SEARCH = "in the search", "seeds of the search"
_TEST_ALARMS = {"_source": "false alarms source", "_target": "false alarms target", "": "false alarms test"}
_MOST_ROWS = 100  # on a terminal


@dataclass(frozen=True)
class _Measure:
    """A column of numbers: its cell, the key by which its best value is found, and whether it is optional."""

    header: str
    cell: Callable[[Row], str]
    ranked_by: str | None = None
    is_optional: bool = False  # left out where the terminal is too narrow
    is_kept_longer: bool = False  # left out after all other optional columns


def render(
    rows: Sequence[Row],
    *,
    format: Format,
    title: str,
    rule: Rule = OFFICIAL,
    console: Console | None = None,
) -> str | None:
    """Print a leaderboard as a table and return ``None``, or return it as CSV, JSON or Markdown.

    Parameters
    ----------
    rows : sequence of dict
        As `asdbench.report.leaderboard.rows` returns them, of either kind.
    format : "table", "csv", "json" or "markdown"
        The table shows as many columns as fit on the console, and the best 100 of very many rows.
    title : str
        Heading of the table and of the Markdown.
    rule : Rule
        The rule that defines the official score; table and Markdown state it.
    console : rich.console.Console, optional
        Where the table is printed; standard output by default.

    Raises
    ------
    InputError
        The format does not exist.
    """
    table = markdown_table if format == "markdown" else terminal_table
    shown = [] if format in ("csv", "json") else rows  # these have no table
    return rendering.render(rows, table(shown, title, rule), format=format, console=console)


def terminal_table(rows: Sequence[Row], title: str, rule: Rule, *, n_dropped: int = 0) -> DisplayTable:
    """Return a leaderboard for a terminal: the best 100 of very many rows, and narrower tables in turn.

    Parameters
    ----------
    rows, title, rule
        As in `render`.
    n_dropped
        The number of optional columns to leave out, the last ones first; the caption names them.
    """
    by_type = _is_by_type(rows)
    measures, dropped = _without_last_optional(_measures(rows), n_dropped)
    has_more = any(measure.is_optional for measure in measures)
    best = _best_values(rows, measures)
    has_tiers = _has_tiers(rows)
    display_rows: list[DisplayRow] = []
    machine_type = None
    previous: Row = {}
    shown = _first_rows(rows)
    for row in shown:
        if by_type and row["machine_type"] != machine_type:
            machine_type = row["machine_type"]
            heading = Text(machine_type, style="underline")
            display_rows.append(DisplayRow([*([""] if has_tiers else []), heading], begins_section=True))
        named = [name_cell(row, indent="  " * by_type)]
        cells: list[str | Text] = [_rank_cell(row), *named, _tier_cell(row)] if has_tiers else [*named]
        begins_section = not by_type and is_by_another_rule(row) and not is_by_another_rule(previous)
        display_rows.append(
            DisplayRow(
                [*_place_cells(row), *cells, *_number_cells(row, measures, best)],
                begins_section=begins_section,
            )
        )
        previous = row
    headers = (measure.header.replace(" ", "\n", 1) for measure in measures)
    return DisplayTable(
        [
            *_place_columns(rows),
            *([Column("rank", "right")] if has_tiers else []),
            Column("machine type\n  system" if by_type else "system"),
            *([Column("tier", no_wrap=True)] if has_tiers else []),
            *(Column(header, "right", no_wrap=True) for header in headers),
        ],
        display_rows,
        title,
        _caption(shown, rule, measures) + _left_out(rows, shown) + _dropped(dropped),
        narrow=terminal_table(rows, title, rule, n_dropped=n_dropped + 1) if has_more else None,
    )


def _without_last_optional(measures: Sequence[_Measure], count: int) -> tuple[list[_Measure], list[_Measure]]:
    """Return the measures without the last ``count`` of the optional ones, and these."""
    optional = sorted(
        (measure for measure in measures if measure.is_optional),
        key=lambda measure: not measure.is_kept_longer,
    )
    last = optional[len(optional) - count :]
    dropped = [measure for measure in measures if measure in last]
    return [measure for measure in measures if measure not in dropped], dropped


def _dropped(measures: Sequence[_Measure]) -> str:
    if not measures:
        return ""
    names = ", ".join(measure.header for measure in measures)
    return f" Not shown, as the terminal is too narrow: {names}; --format csv has all columns."


def _first_rows(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows that a terminal shows: of very many the first of each type, and the published."""
    if len(rows) <= _MOST_ROWS:
        return rows
    by_type: dict[str, list[Row]] = {}
    for row in rows:
        by_type.setdefault(row.get("machine_type", ""), []).append(row)
    share = max(1, _MOST_ROWS // len(by_type))
    return [
        row
        for of_type in by_type.values()
        for place, row in enumerate(of_type)
        if place < share or row.get("reference")
    ]


def _left_out(rows: Sequence[Row], shown: Sequence[Row]) -> str:
    if len(shown) == len(rows):
        return ""
    best = "the best of each machine type" if _is_by_type(rows) else "the best"
    return f" Shown are {len(shown)} of {len(rows):,} rows, {best}; --format csv has all of them."


def markdown_table(rows: Sequence[Row], title: str, rule: Rule) -> DisplayTable:
    """Return a leaderboard for Markdown and HTML, with all rows and columns; parameters as in `render`."""
    by_type = _is_by_type(rows)
    measures = _measures(rows)
    best = _best_values(rows, measures)
    has_tiers = _has_tiers(rows)
    display_rows = []
    for row in rows:
        settings, labels = " ".join(format_settings(row["settings"])), _labels(row)
        display_rows.append(
            DisplayRow(
                [
                    *_place_cells(row),
                    *([row["machine_type"]] if by_type else []),
                    *([_rank_cell(row)] if has_tiers else []),
                    f"{row['system']} ({', '.join(labels)})" if labels else row["system"],
                    *([_tier_cell(row)] if has_tiers else []),
                    f"`{settings}`" if settings else "",
                    *_number_cells(row, measures, best),
                ]
            )
        )
    return DisplayTable(
        [
            *_place_columns(rows),
            *([Column("machine type")] if by_type else []),
            *([Column("rank", "right")] if has_tiers else []),
            Column("system"),
            *([Column("tier")] if has_tiers else []),
            Column("settings"),
            *numeric(*(measure.header for measure in measures)),
        ],
        display_rows,
        title,
        _caption(rows, rule, measures),
    )


def _place_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the column of the numbers by which ``asdbench compare`` takes rows, where rows have them."""
    return [Column("#", "right", no_wrap=True)] if rows and "number" in rows[0] else []


def _place_cells(row: Row) -> list[str]:
    return [str(row["number"] or "")] if "number" in row else []


def _rank_cell(row: Row) -> str:
    return MISSING if row["rank"] is None else str(row["rank"])


def _tier_cell(row: Row) -> Text:
    return Text("other rule" if is_by_another_rule(row) else row["tier"], style=_row_style(row))


def _row_style(row: Row) -> str:
    return "dim" if row.get("reference") else ""


def name_cell(row: Row, *, indent: str = "") -> Text:
    """Return the name of a row, with what distinguishes it on lines of its own."""
    name = Text(indent + row["system"], style=_row_style(row))
    for label in _labels(row):
        name.append(f"\n{indent}  {label}")
    if row["settings"]:
        settings = (f"\n{indent}  {setting}" for setting in format_settings(row["settings"]))
        name.append("".join(settings), style="italic")
    return name


def _number_cells(
    row: Row, measures: Sequence[_Measure], best: Mapping[tuple[str | None, str], float]
) -> list[Text]:
    return [
        Text(measure.cell(row), style="bold" if _is_best(row, measure, best) else "") for measure in measures
    ]


# Columns


_PRINTED = _Measure(
    "score printed",
    lambda row: format_percent((row["reference"] or {}).get("printed_score")),
    is_optional=True,
)


def _measures(rows: Sequence[Row]) -> list[_Measure]:
    has_intervals = _has(rows, "official_score_low")
    measures = [
        _Measure("official score", _score_cell, "official_score"),
        *([] if _is_by_type(rows) or not _has(rows, "reference") else [_PRINTED]),
        *(_intervals(rows) if has_intervals else []),
        *(
            _Measure(
                METRIC_NAMES[metric],
                _percent_cell(metric),
                metric,
                is_optional=has_intervals or _has_tiers(rows),
                is_kept_longer=has_intervals,
            )
            for metric in _metrics(rows)
        ),
        _Measure("seeds", lambda row: str(len(row["seeds"]) or MISSING), is_optional=_has_tiers(rows)),
        *(_weights() if _has(rows, "weights") else []),
    ]
    return measures + (_measures_of_types(rows) if _is_by_type(rows) else _costs())


def _measures_of_types(rows: Sequence[Row]) -> list[_Measure]:
    f1_scores = {"f1": "F1", "f1_source": "F1 source", "f1_target": "F1 target"}
    return [
        _Measure("half-widths", _half_widths_cell(_metrics(rows)), is_optional=True),
        *(
            _Measure(header, _percent_cell(name), name, is_optional=True)
            for name, header in f1_scores.items()
            if name in rows[0]
        ),
        _Measure("false alarms", _false_alarms_cell, is_optional=True),
        *(
            _Measure(header, partial(_test_alarms_cell, suffix), is_optional=True)
            for suffix, header in _TEST_ALARMS.items()
            if f"test_normals{suffix}" in rows[0]
        ),
    ]


def _weights() -> list[_Measure]:
    return [
        _Measure("weights license", _texts_cell("weights_license"), is_optional=True),
        _Measure("weights trained on", _texts_cell("weights_training_data"), is_optional=True),
    ]


def _costs() -> list[_Measure]:
    return [
        _Measure("parameters", lambda row: format_number(row["parameters"]), is_optional=True),
        _Measure("MAC/clip", lambda row: format_count(row["macs_per_clip"]), is_optional=True),
        _Measure("training", lambda row: format_duration(row["training_seconds"]), is_optional=True),
        _Measure("scoring", lambda row: format_duration(row["scoring_seconds"]), is_optional=True),
        _Measure("clips/s", lambda row: format_number(row["clips_per_second"]), is_optional=True),
    ]


def _score_cell(row: Row) -> str:
    if row["official_score"] is None:
        n_expected = row["machine_types"] + len(row["machine_types_missing"])
        return f"{row['machine_types']} of {n_expected} types"
    spread = row["official_score_std"]
    return format_percent(row["official_score"]) + ("" if spread is None else f" ± {format_percent(spread)}")


def _intervals(rows: Sequence[Row]) -> list[_Measure]:
    these = _Measure("interval (95 %)", _interval_cell("official_score"))
    like_these = _Measure("machines like these (95 %)", _interval_cell("like_these"), is_optional=True)
    return [these, like_these] if _has(rows, "like_these_low") else [these]


def _interval_cell(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        if row.get(f"{name}_low") is None:
            return MISSING
        return f"{format_percent(row[f'{name}_low'])} to {format_percent(row[f'{name}_high'])}"

    return cell


def _percent_cell(metric: str) -> Callable[[Row], str]:
    return lambda row: format_percent(row[metric])


def _texts_cell(name: str) -> Callable[[Row], str]:
    return lambda row: "; ".join(row.get(name) or ()) or MISSING


def _half_widths_cell(metrics: Sequence[str]) -> Callable[[Row], str]:
    return lambda row: " / ".join(format_percent(row.get(f"{metric}_half_width")) for metric in metrics)


def _false_alarms_cell(row: Row) -> str:
    if not row.get("normals"):
        return MISSING
    return format_rate(row["false_alarms"], row["normals"])


def _test_alarms_cell(suffix: str, row: Row) -> str:
    n_normals = row.get(f"test_normals{suffix}")
    if n_normals:
        return format_rate(row[f"test_false_alarms{suffix}"], n_normals)
    units = row.get("threshold_units_source", row.get("threshold_units"))
    if row.get("threshold") is None and units is not None:
        return f"no threshold: {units:.0f} of {row['threshold_needed']:.0f}"
    return MISSING


def format_rate(false_alarms: float, normals: float) -> str:
    """Return a false alarm rate with its 95 % interval; of means over seeds, the interval of one seed.

    >>> format_rate(10, 100)
    '10 % (5–18)'
    """
    low, high = binomial_interval(round(false_alarms), round(normals))
    return f"{100 * false_alarms / normals:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def _labels(row: Row) -> list[str]:
    """Return what a reader must know of a row before comparing it; nothing of most rows."""
    imported = ["imported"] if row.get("imported") and "rank" not in row else []
    return [*imported, *choice_labels(row), *version_labels(row)]


def choice_labels(row: Row) -> list[str]:
    """Return what is not alike for all rows: labels that chose settings, and test clips that were learned."""
    labels = [format_search(row["tuned"]), *_score_labels(row)] if row.get("tuned") else []
    labels += [CHOSEN_ON_LABELS] if row.get("chosen_on_labels") else []
    labels += [TRANSDUCTIVE] if row.get("transductive") else []
    return labels + ((row.get("imported") or {}).get("marks") or [])


def _score_labels(row: Row) -> list[str]:
    """Return what the search that chose the settings of a row saw of these clips."""
    score = score_in_search(row)
    if score is None:
        return []
    return [SEEDS_OF_SEARCH] if has_seen_seeds(row) else [f"{format_percent(score)} {IN_SEARCH}"]


# The best values


def _best_values(rows: Sequence[Row], measures: Sequence[_Measure]) -> dict[tuple[str | None, str], float]:
    """Return the highest value of each ranked column, per machine type if the rows have one.

    Published rows do not compete. A column whose values are all equal has no best value.
    """
    values: dict[tuple[str | None, str], list[float]] = {}
    for row in rows:
        for measure in measures:
            if row.get("reference") is None and row.get(measure.ranked_by or "") is not None:
                key = (row.get("machine_type"), measure.ranked_by or "")
                values.setdefault(key, []).append(row[key[1]])
    return {key: max(competing) for key, competing in values.items() if min(competing) < max(competing)}


def _is_best(row: Row, measure: _Measure, best: Mapping[tuple[str | None, str], float]) -> bool:
    key = (row.get("machine_type"), measure.ranked_by or "")
    return row.get("reference") is None and key in best and row[key[1]] == best[key]


# The caption


def _caption(rows: Sequence[Row], rule: Rule, measures: Sequence[_Measure]) -> str:
    if not rows:
        return "There are no results yet."
    averaged_over = "the sections of a machine type" if _is_by_type(rows) else "machine types"
    metrics = ", ".join(re.sub(" (.+)", r" (\1)", METRIC_NAMES[metric]) for metric in _metrics(rows))
    sentences = [
        f"Official score in percent: {rule.mean} mean of {metrics} over {averaged_over}; "
        f"{_seeds_clause(rows)}."
    ]
    headers = {measure.header for measure in measures}
    methods = [row["threshold_method"] for row in rows if row.get("threshold_method")]
    if methods and any(header.startswith("F1") for header in headers):
        sentences.append(f"F1 uses the {methods[0]} threshold.")
    if methods and "false alarms" in headers:
        sentences.append(
            "False alarms: the share of held-out normal clips above a threshold set without their recording "
            "or group of similar clips (nominally 10 %), with its 95 % interval."
        )
    if headers & set(_TEST_ALARMS.values()):
        sentences.append(
            "False alarms source and target (or test, without domains): the share of the normal test clips "
            "above the threshold, with the 95 % interval for the clips of one seed."
        )
        sentences += _source_only_sentences(rows) + _no_threshold_sentences(rows)
    if "half-widths" in headers:
        sentences.append(
            f"Half-widths: of the 95 % jackknife intervals of {metrics} {_left_out_units(rows)}."
        )
    sentences += _tuning_sentences(rows) + _imported_sentences(rows)
    sentences += [CAPTION] if any(version_labels(row) for row in rows) else []
    if any(row["official_score"] is None for row in rows):
        sentences.append("A system gets a score once at least one seed has results for all machine types.")
    if _has(rows, "official_score_low"):
        sentences += _interval_sentences(rows)
    sentences += _published_sentences([row for row in rows if row.get("reference")])
    return " ".join(sentences)


def _published_sentences(rows: Sequence[Row]) -> list[str]:
    """Return what to know about published rows: their tiers, another rule, and their sources."""
    if not rows:
        return []
    tiers = {row["tier"] for row in rows}
    words = {
        "recomputed": "recomputed: from the published values of machine types.",
        "published": "published: the score that the source prints.",
    }
    sentences = [sentence for tier, sentence in words.items() if tier in tiers]
    if not all(row["reference"]["is_official"] for row in rows):
        sentences.append(
            "other rule: recomputed too, but from values that by all appearances use the anomalies of one "
            "domain only; they do not compare with the others and have no rank."
        )
    sources = dict.fromkeys(row["reference"]["source"] for row in rows)
    return [*sentences, f"Sources: {'; '.join(sorted(sources))}."]


def _imported_sentences(rows: Sequence[Row]) -> list[str]:
    """Return where imported scores come from."""
    sources = {
        row["system"]: ", ".join(filter(None, (row["imported"]["source"], row["imported"]["license"])))
        for row in rows
        if row.get("imported")
    }
    if not sources:
        return []
    names = "; ".join(f"{name} ({source})" if source else name for name, source in sources.items())
    return [f"Imported, that is, scored elsewhere and judged here: {names}."]


def _no_threshold_sentences(rows: Sequence[Row]) -> list[str]:
    if not any(row.get("threshold") is None and row.get("threshold_needed") for row in rows):
        return []
    return [
        "No threshold, N of M: too few normal clips are held out to set one; it takes M recordings, or M "
        "clips where recordings are unknown."
    ]


def _source_only_sentences(rows: Sequence[Row]) -> list[str]:
    """Return which systems hold out no target-domain clip, so that their thresholds promise nothing there."""
    names = dict.fromkeys(
        row["system"]
        for row in rows
        if row.get("threshold") is not None and row.get("threshold_units_target", 0) is None
    )
    if not names:
        return []
    return [
        f"Thresholds from source clips alone, without a promise for the target domain: {', '.join(names)}."
    ]


def _seeds_clause(rows: Sequence[Row]) -> str:
    seed_lists = {tuple(row["seeds"]) for row in rows if row["seeds"]}
    seeds = next(iter(seed_lists)) if len(seed_lists) == 1 else ()
    if len(seeds) == 1:
        return f"seed {seeds[0]} only, so there is no spread"
    averaged = f"mean of seeds {', '.join(map(str, seeds))}" if seeds else "mean over seeds"
    return f"{averaged}; ± is the standard deviation over seeds"


def _left_out_units(rows: Sequence[Row]) -> str:
    """Return over what jackknife intervals are."""
    kinds: dict[str, Kind] = {
        row["machine_type"]: row["half_width_over"] for row in rows if row.get("half_width_over")
    }
    return f"over {listed_kinds(kinds) or 'clips'}"


def _interval_sentences(rows: Sequence[Row]) -> list[str]:
    """Return what the intervals are of, and why one is rough or absent."""
    resampled: dict[str, Kind] = {}
    few: dict[str, int] = {}
    for row in rows:
        resampled |= row.get("resampled") or {}
        few |= row.get("few_recordings") or {}
    like_these = "Machines like these: machine types are resampled too."
    if _is_by_type(rows):
        like_these = ""
    elif not _has(rows, "like_these_low"):
        like_these = few_types_note(len(resampled)) if resampled else ""
    sentences = (
        "Interval: bootstrap on these machines, and what seeds vary.",
        resampled_note(resampled),
        few_recordings_note(few),
        like_these,
    )
    return [sentence for sentence in sentences if sentence]


def _tuning_sentences(rows: Sequence[Row]) -> list[str]:
    subsets = {row["subset"] for row in rows if row.get("tuned")}
    sentences = {
        "dev": (
            "dev-tuned: settings were chosen with the labels of these clips, so this score is optimistic; "
            "'asdbench tune --protocol leave-one-type-out' estimates by how much."
        ),
        "eval": (
            "dev-tuned: settings were chosen with the labels of the development clips; the clips scored here "
            "were not used."
        ),
    }
    shown = [sentence for subset, sentence in sentences.items() if subset in subsets]
    labels = {label for row in rows if row.get("tuned") for label in _score_labels(row)}
    if any(label.endswith(IN_SEARCH) for label in labels):
        shown.append(
            f"{IN_SEARCH}: the score with the seeds that the search saw; the row has other seeds, since the "
            f"highest of many scores is partly luck. 'asdbench compare' compares rows with equal seeds."
        )
    if SEEDS_OF_SEARCH in labels:
        shown.append(
            f"{SEEDS_OF_SEARCH}: the score is the one that made the search choose the settings, which is "
            f"partly luck; 'asdbench run' with these settings and other --seeds gives it without."
        )
    if any(row.get("chosen_on_labels") for row in rows):
        shown.append(
            f"{CHOSEN_ON_LABELS}: the method or a preset of its settings was chosen with the labels of these "
            f"clips, so this score is optimistic."
        )
    if any(row.get("transductive") for row in rows):
        shown.append(
            f"{TRANSDUCTIVE}: the score of a clip depends on the other test clips, which a detector in use "
            f"does not have."
        )
    return shown


def _metrics(rows: Sequence[Row]) -> list[str]:
    """Return the rule's metrics that the rows have, in the order of the columns."""
    return [metric for metric in METRIC_NAMES if rows and metric in rows[0]]


def _has(rows: Sequence[Row], key: str) -> bool:
    return any(row.get(key) is not None for row in rows)


def _has_tiers(rows: Sequence[Row]) -> bool:
    return _has(rows, "tier") and "rank" in rows[0]


def _is_by_type(rows: Sequence[Row]) -> bool:
    return bool(rows) and "machine_type" in rows[0]
