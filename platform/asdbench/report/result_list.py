"""The list of stored results: a row for each group that one run made, with its state."""

import json
from collections.abc import Sequence

import polars as pl

from asdbench.engine.result_index import Decoder
from asdbench.engine.result_selection import CURRENT
from asdbench.report.formatting import format_settings, format_trials
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Row, numeric

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
        ``data``, ``system``, ``settings`` (the changed ones), ``tuned`` (``None``, or a dict with ``search``,
        ``trials`` and ``protocol``), ``subset``, ``seeds``, ``machine_types``, ``results`` (their number),
        ``state`` and ``finished`` (the newest, UTC, in ISO 8601).
    """
    groups = results.group_by(_GROUP, maintain_order=True).agg(
        seeds=pl.col("seed").unique().sort(),
        machine_types=pl.col("machine_type").unique().sort(),
        results=pl.len(),
        finished=pl.col("finished").max(),
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
    return rows


def list_table(rows: Sequence[Row]) -> DisplayTable:
    """Return the list for people."""
    columns = [
        *map(Column, ("data set", "system", "settings", "subset", "seeds")),
        *numeric("types", "results"),
        *map(Column, ("state", "finished (UTC)")),
    ]
    display_rows = [
        DisplayRow(
            [
                row["data"],
                row["system"],
                "\n".join([*_search(row), *format_settings(row["settings"])]),
                row["subset"],
                " ".join(map(str, row["seeds"])),
                str(len(row["machine_types"])),
                f"{row['results']:,}",
                row["state"],
                row["finished"].replace("T", " ")[:16],
            ]
        )
        for row in rows
    ]
    n_results = sum(row["results"] for row in rows)
    n_current = sum(row["results"] for row in rows if row["state"] == CURRENT)
    caption = (
        f"{n_results:,} results, {n_current:,} of them current: they match recordings, labels and code, and "
        f"count on the leaderboard."
    )
    return DisplayTable(columns, display_rows, "Stored results", caption)


def _search(row: Row) -> list[str]:
    return [f"dev-tuned, {format_trials(row['tuned']['trials'])}"] if row["tuned"] else []
