"""The tables of a comparison: of two rows one, of more rows one over all machine types and one of each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.text import Text

from asdbench.metrics.resampled import LEAST_SEEDS
from asdbench.report.formatting import MISSING, format_amount, format_p_value, format_percent
from asdbench.report.interval_notes import (
    few_recordings_note,
    few_seeds_note,
    few_types_note,
    resampled_note,
)
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Row, numeric
from asdbench.report.row_pairs import ALL

Lines = Sequence[Row]


def comparison_tables(lines: Lines, marks: Mapping[str, str], title: str) -> list[DisplayTable]:
    """Return the tables of the lines of all comparisons, with the differences in bold that are sure.

    ``marks`` is what is to be known of compared rows, by name.
    """
    by_pair: dict[str, list[Row]] = {}
    for line in lines:
        by_pair.setdefault(line["systems"][1], []).append(line)
    pairs = list(by_pair.values())
    if len(pairs) == 1:
        return [_pair_table(pairs[0], marks, title)]
    return [_overall_table(pairs, marks, title), _types_table(pairs)]


def _pair_table(lines: Lines, marks: Mapping[str, str], title: str) -> DisplayTable:
    first, second = lines[0]["systems"]
    rows = [
        DisplayRow(
            [
                line["machine_type"],
                format_percent(line["score_a"]),
                format_percent(line["score_b"]),
                *_difference_cells(line),
            ],
            is_bold=line["is_sure"],
            begins_section=line["machine_type"] == ALL,
        )
        for line in lines
    ]
    columns = [
        Column("machine type", no_wrap=True),
        *numeric(first, second),
        *_difference_columns(lines[0]),
    ]
    return _narrowing(DisplayTable(columns, rows, title, _caption([lines], marks)), [5])


def _difference_columns(line: Row) -> list[Column]:
    interval = f"{100 * line['confidence']:g} % interval"
    headers = "difference", f"{interval},\nthese machines", "machines\nlike these"
    return [Column(header, "right", no_wrap=True) for header in headers]


def _narrowing(table: DisplayTable, order: Sequence[int]) -> DisplayTable:
    """Return a table that leaves out columns, in this order, where the terminal is too narrow."""
    narrower = None
    for count in range(len(order), 0, -1):
        narrower = replace(_without(table, order[:count]), narrow=narrower)
    return replace(table, narrow=narrower)


def _without(table: DisplayTable, places: Sequence[int]) -> DisplayTable:
    kept = [place for place in range(len(table.columns)) if place not in places]
    names = ", ".join(table.columns[place].header.replace("\n", " ") for place in sorted(places))
    return replace(
        table,
        columns=[table.columns[place] for place in kept],
        rows=[replace(row, cells=[row.cells[place] for place in kept]) for row in table.rows],
        caption=f"{table.caption} Not shown, as the terminal is too narrow: {names}; --format csv has all "
        f"columns.",
    )


def _difference_cells(line: Row) -> tuple[str, str, str]:
    return (
        format_percent(line["difference"], signed=True),
        _interval_cell(line, "difference"),
        _interval_cell(line, "difference_like_these"),
    )


def _interval_cell(line: Row, name: str) -> str:
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    if low is None:
        return MISSING
    return f"{format_percent(low, signed=True)} to {format_percent(high, signed=True)}"


def _overall_table(pairs: Sequence[Lines], marks: Mapping[str, str], title: str) -> DisplayTable:
    overall = [lines[-1] for lines in pairs]
    first = overall[0]
    reference = f"{first['systems'][0]} (reference)"
    rows = [
        DisplayRow(
            [
                line["systems"][1],
                format_percent(line["score_a"]),
                format_percent(line["score_b"]),
                *_difference_cells(line),
                MISSING if line["p_holm"] is None else format_p_value(line["p_holm"]),
                " ".join(map(str, line["seeds"])) or MISSING,
            ],
            is_bold=line["is_sure"],
        )
        for line in overall
    ]
    columns = [
        Column("row"),
        *numeric(reference, "its score"),
        *_difference_columns(first),
        Column("p-value\n(Holm)", "right", no_wrap=True),
        Column("seeds", no_wrap=True),
    ]
    return _narrowing(DisplayTable(columns, rows, title, _caption(pairs, marks)), [7, 1, 5])


def _types_table(pairs: Sequence[Lines]) -> DisplayTable:
    by_type = [{line["machine_type"]: line for line in lines} for lines in pairs]
    names = dict.fromkeys(name for lines in by_type for name in lines if name != ALL)
    rows = [DisplayRow([name, *(_type_cell(lines.get(name)) for lines in by_type)]) for name in (*names, ALL)]
    columns = [Column("machine type"), *numeric(*(lines[-1]["systems"][1] for lines in pairs))]
    reference = pairs[0][0]["systems"][0]
    return DisplayTable(
        columns,
        rows,
        "Differences by machine type",
        f"Score minus that of {reference}, in percentage points.",
    )


def _type_cell(line: Row | None) -> Text:
    if line is None:
        return Text(MISSING)
    style = "bold" if line["is_sure"] else ""
    return Text(format_percent(line["difference"], signed=True), style=style)


# The caption


def _caption(pairs: Sequence[Lines], marks: Mapping[str, str]) -> str:
    with_intervals = [lines for lines in pairs if lines[0]["resampled"] is not None]
    sentences = [_score_sentence(pairs), *_published_sentences(pairs)]
    if with_intervals:
        sentences += _interval_sentences(with_intervals)
    sentences += [f"{name}: {words}." for name, words in marks.items()]
    return " ".join(filter(None, sentences))


def _score_sentence(pairs: Sequence[Lines]) -> str:
    seeds = {tuple(lines[0]["seeds"]) for lines in pairs}
    common = next(iter(seeds)) if len(seeds) == 1 else ()
    if len(common) == 1:
        averaged = f"seed {common[0]} only"
    elif seeds == {()}:
        averaged = "one run each, of unknown seeds"
    elif common:
        averaged = f"mean of seeds {', '.join(map(str, common))}"
    else:
        averaged = "mean of the seeds that both rows have"
    reference = pairs[0][0]["systems"][0]
    other = pairs[0][0]["systems"][1] if len(pairs) == 1 else "score"
    return f"Official score in percent, {averaged}. Difference: {other} minus {reference}."


def _published_sentences(pairs: Sequence[Lines]) -> list[str]:
    if all(lines[0]["resampled"] is not None for lines in pairs):
        return []
    return ["A published result has no scores of clips, so its difference has no interval and is never bold."]


def _interval_sentences(pairs: Sequence[Lines]) -> list[str]:
    line = pairs[0][0]
    n_types = len(pairs[0]) - 1
    few_seeds = min(lines[0]["runs"] for lines in pairs)
    return [
        f"Interval: from {line['resamples']:,} paired bootstrap resamples, and from what seeds vary.",
        resampled_note(line["resampled"]),
        few_recordings_note(line["few_recordings"]),
        few_types_note(n_types) or "On machines like these: machine types are resampled too.",
        _bold_sentence(pairs, n_types) if _n_with_p(pairs) else few_seeds_note(few_seeds),
    ]


def _n_with_p(pairs: Sequence[Lines]) -> int:
    return sum(lines[-1]["p_value"] is not None for lines in pairs)


def _bold_sentence(pairs: Sequence[Lines], n_types: int) -> str:
    n_pairs = _n_with_p(pairs)
    level = 1 - pairs[0][0]["confidence"]
    few = "" if n_pairs == len(pairs) else f" Rows with fewer than {LEAST_SEEDS} seeds are never bold."
    if n_pairs == 1:
        return (
            f"Bold: the interval on these machines excludes zero; for single machine types also after "
            f"Holm's correction for {format_amount(n_types, 'machine type')}.{few}"
        )
    return (
        f"Bold: p-value on these machines at most {level:.2g} after Holm's correction, over all machine "
        f"types for {n_pairs} comparisons and for single machine types for {n_pairs * n_types}.{few}"
    )
