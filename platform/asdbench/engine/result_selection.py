"""The stored results of all data sets, each with its state, and the selection of some of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import JudgedTypes, labeled_clips
from asdbench.engine.job_store import JobStore
from asdbench.engine.record_index import indexed_records
from asdbench.engine.result_checks import with_checks
from asdbench.engine.result_index import RESULTS, Decoder
from asdbench.errors import InputError, unknown_name
from asdbench.io.records import RecordError
from asdbench.io.workspace import Workspace

CURRENT = "current"
OUTDATED = "out of date"  # recordings, labels or code have changed
NO_SYSTEM = "unknown system"  # it may be a plugin of another folder
NO_DATA = "no data set"  # none of that name is registered


@dataclass(frozen=True)
class ResultSelection:
    """Which results are meant; an empty choice means all.

    Attributes
    ----------
    data, systems : names of data sets and of systems
    seeds : random seeds
    preset, settings : as the results were run with; None and empty for all
    outdated : only results that are out of date
    """

    data: str | None = None
    systems: Sequence[str] = ()
    seeds: Sequence[int] = ()
    preset: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    outdated: bool = False

    def changed_settings(self, systems: Sequence[str]) -> dict[str, dict[str, object]] | None:
        """Return the settings that differ from the defaults by system, None if settings do not matter.

        Raises :class:`InputError` for a setting that none of the systems has.
        """
        if self.preset is None and not self.settings:
            return None
        known = [name for name in systems if name in registry.names()]
        each = registry.configure_each(known, self.settings, preset=self.preset)
        return {name: configured.changed() for name, configured in each.items()}


@dataclass(frozen=True)
class SelectedResults:
    """Results of a job store.

    Attributes
    ----------
    selected : rows of `asdbench.engine.result_index.RESULTS` with their ``state``
    others : all other results
    unreadable : why a stored result cannot be read, for each one
    """

    selected: pl.DataFrame
    others: pl.DataFrame
    unreadable: tuple[RecordError, ...]


def select_results(
    workspace: Workspace,
    store: JobStore,
    selection: ResultSelection,
    *,
    elsewhere: Collection[tuple[str, str]] = (),
) -> SelectedResults:
    """Return the stored results that a selection means, and the others.

    Parameters
    ----------
    workspace, store, selection
        The data sets, the stored results, and which of them are meant.
    elsewhere
        Data set and name of results that are not in the store, so that a selection may name them.

    Raises
    ------
    InputError
        There are no results on the data set or of a system, or no system has a setting.
    """
    stored = indexed_records(store.root, RESULTS)
    rows = stored.rows
    data = {*rows["data"], *(name for name, _ in elsewhere)}
    _check_known("results on data set", [selection.data] if selection.data else [], data)
    _check_known("results of system", selection.systems, {*rows["system"], *(name for _, name in elsewhere)})
    is_meant = pl.lit(True)
    if selection.data is not None:
        is_meant &= pl.col("data") == selection.data
    if selection.systems:
        is_meant &= pl.col("system").is_in(list(selection.systems))
    if selection.seeds:
        is_meant &= pl.col("seed").is_in(list(selection.seeds))
    selected = _with_settings(rows.filter(is_meant), selection)
    selected = with_states(selected, workspace, store)
    if selection.outdated:
        selected = selected.filter(pl.col("state") == OUTDATED)
    return SelectedResults(selected, rows.join(selected, on="name", how="anti"), stored.unreadable)


def with_states(results: pl.DataFrame, workspace: Workspace, store: JobStore) -> pl.DataFrame:
    """Return results with a column ``state``: current, out of date, or why that is unknown."""
    schema = {"name": pl.Utf8, "state": pl.Utf8}
    states = pl.DataFrame(_states(results, workspace, store), schema=schema, orient="row")
    return results.join(states, on="name", how="left", maintain_order="left")


def _states(results: pl.DataFrame, workspace: Workspace, store: JobStore) -> list[tuple[str, str]]:
    systems = set(registry.names())
    states: list[tuple[str, str]] = []
    for name in results["data"].unique().sort():
        on_data = results.filter(pl.col("data") == name)
        try:
            data = catalog.load(workspace, name)
        except InputError:
            states += [(result, NO_DATA) for result in on_data["name"]]
            continue
        checked = with_checks(on_data, data, JudgedTypes(labeled_clips(data)), store.root)
        for result, system, is_current in checked.select("name", "system", "is_current").iter_rows():
            state = CURRENT if is_current else OUTDATED if system in systems else NO_SYSTEM
            states.append((result, state))
    return states


def _check_known(kind: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown_name(kind, name, known)


def _with_settings(rows: pl.DataFrame, selection: ResultSelection) -> pl.DataFrame:
    """Return the rows with the settings of a selection."""
    wanted = selection.changed_settings(rows["system"].unique().sort().to_list())
    if wanted is None:
        return rows
    decoder = Decoder()
    are_equal = [
        system in wanted and decoder.decode("changed_settings", text) == wanted[system]
        for system, text in rows.select("system", "changed_settings").iter_rows()
    ]
    return rows.filter(pl.Series(are_equal, dtype=pl.Boolean()))
