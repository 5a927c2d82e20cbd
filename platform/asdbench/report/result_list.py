"""The list of stored results: a row for each group that one run made, with its state."""

import json
from collections.abc import Sequence

import polars as pl

from asdbench.engine.result_index import Decoder
from asdbench.engine.result_selection import CURRENT
from asdbench.report.formatting import format_amount, format_search, format_settings
from asdbench.report.imported_list import CHANGED, IMPORTED
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Row
from asdbench.report.row_versions import CAPTION, version_labels, version_texts, with_version_marks

_COLUMNS = (
    *(Column(header, no_wrap=True) for header in ("data set", "system")),
    Column("settings"),
    Column("subset", no_wrap=True),
    Column("seeds"),
    *(Column(header, "right", no_wrap=True) for header in ("types", "results")),
    *(Column(header, no_wrap=True) for header in ("state", "finished (UTC)")),
)
_DROPPED_FIRST = ("types", "results", "finished (UTC)", "subset")  # where the terminal is too narrow
_GROUP = ("data", "system", "changed_settings", "pseudo_anomaly_data", "tuned", "subset", "state")


def list_rows(results: pl.DataFrame) -> list[Row]:
    """Return a row for each data set, system, settings, search, subset and state, the newest last.

    Parameters
    ----------
    results : polars.DataFrame
        Rows of `asdbench.engine.result_selection.with_states`.

    Returns
    -------
    list of dict
        ``data``, ``system``, ``settings`` (the changed ones), ``tuned`` (``None``, or a dict of what
        `asdbench.engine.result_record.SearchProvenance` holds), ``subset``, ``seeds``, ``machine_types``,
        ``results`` (their number),
        ``state``, ``finished`` (the newest, UTC, in ISO 8601), ``versions`` and ``other_versions`` as in
        `asdbench.report.leaderboard.rows`.
    """
    groups = results.group_by(_GROUP, maintain_order=True).agg(
        seeds=pl.col("seed").unique().sort(),
        machine_types=pl.col("machine_type").unique().sort(),
        results=pl.len(),
        finished=pl.col("finished").max(),
        versions=pl.col("versions").unique(),
    )
    decoder = Decoder()
    rows = []
    for group in groups.sort("data", "finished", "system").iter_rows(named=True):
        settings = dict(decoder.decode("changed_settings", group.pop("changed_settings")))
        if others := group.pop("pseudo_anomaly_data"):
            settings["pseudo_anomaly_data"] = others
        tuned = None if group["tuned"] is None else json.loads(group["tuned"])
        rows.append({"data": group.pop("data"), "system": group.pop("system"), "settings": settings, **group})
        rows[-1]["tuned"] = tuned
        versions = (decoder.decode("versions", text) for text in group["versions"])
        rows[-1]["versions"] = version_texts(each for several in versions for each in several)
    return with_version_marks(rows)


def list_table(rows: Sequence[Row], *, n_dropped: int = 0) -> DisplayTable:
    """Return the list for people.

    Parameters
    ----------
    rows
        As `list_rows` returns them.
    n_dropped
        The number of columns to leave out, in the order of `_DROPPED_FIRST`; the caption names them.
    """
    dropped = _DROPPED_FIRST[:n_dropped]
    columns = [column for column in _COLUMNS if column.header not in dropped]
    display_rows = []
    for row in rows:
        cells = _cells(row)
        display_rows.append(DisplayRow([cells[column.header] for column in columns]))
    has_more = n_dropped < len(_DROPPED_FIRST)
    return DisplayTable(
        columns,
        display_rows,
        "Stored results",
        _caption(rows, dropped),
        narrow=list_table(rows, n_dropped=n_dropped + 1) if has_more else None,
    )


def _cells(row: Row) -> dict[str, str]:
    """Return the cells of a row, by the header of their column."""
    return {
        "data set": row["data"],
        "system": row["system"],
        "settings": "\n".join([*_search(row), *version_labels(row), *format_settings(row["settings"])]),
        "subset": row["subset"],
        "seeds": " ".join(map(str, row["seeds"])),
        "types": str(len(row["machine_types"])),
        "results": f"{row['results']:,}",
        "state": row["state"],
        "finished (UTC)": row["finished"].replace("T", " ")[:16],
    }


def _caption(rows: Sequence[Row], dropped: Sequence[str]) -> str:
    imported = [row for row in rows if row["state"] in (IMPORTED, CHANGED)]
    n_results = sum(row["results"] for row in rows if row not in imported)
    n_current = sum(row["results"] for row in rows if row["state"] == CURRENT)
    counted = (
        f"{format_amount(n_results, 'result')}, {n_current:,} current. Current results match recordings, "
        f"labels and code, and count on the leaderboard."
    )
    if imported:
        counted += f" {format_amount(len(imported), 'imported result')}: scored elsewhere, and judged here."
    counted += f" {CAPTION}" if any(version_labels(row) for row in rows) else ""
    if not dropped:
        return counted
    names = ", ".join(dropped)
    return f"{counted} Not shown, as the terminal is too narrow: {names}; --format csv has all columns."


def _search(row: Row) -> list[str]:
    return [format_search(row["tuned"])] if row["tuned"] else []
