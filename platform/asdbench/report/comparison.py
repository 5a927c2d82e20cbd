"""Comparison of rows of the leaderboard: the differences of their scores, and which are sure.

Idea: the first row is the reference, with which each other row is compared (`asdbench.report.row_pairs`). Who
looks at many differences finds large ones by chance, so p-values are corrected by Holm's method: those over
all machine types for the number of comparisons, those of single machine types for the number of comparisons
times that of machine types. A difference is sure if its corrected p-value is at most 1 − confidence; below
three seeds there is no p-value.

Conventions: rows hold fractions between 0 and 1; tables for people are in percent. A difference is the other
row's score minus the reference's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import first_subset, labeled_clips, labeled_types
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics.rank_tests import holm
from asdbench.report.comparison_tables import comparison_tables
from asdbench.report.leaderboard import is_by_another_rule
from asdbench.report.leaderboard_table import choice_labels
from asdbench.report.leaderboard_view import load_leaderboard
from asdbench.report.rendering import DisplayTable, Report, Row
from asdbench.report.row_pairs import ALL, Pairs, is_published, key_of_row, type_scores
from asdbench.report.row_selectors import label, select_rows, short_labels
from asdbench.report.stored_runs import StoredRunOptions


@dataclass(frozen=True)
class Comparison(Report):
    """The differences between the official scores of rows of the leaderboard, the first being the reference.

    Printed, it is a table in percent; ``rows`` and ``frame`` hold fractions between 0 and 1.

    Attributes
    ----------
    rows : for each compared row one dict for each machine type and one for ``"all"``, the last:
        ``machine_type``; ``score_a``, ``score_b`` (means over seeds) with ``score_a_low`` and so on;
        ``difference`` (b − a), ``difference_low``, ``difference_high`` on these machines; the same with
        ``difference_like_these_`` on machines like these, ``None`` for one machine type and below three;
        ``p_value``, ``None`` below three seeds, and ``p_holm``, corrected by Holm's method; ``is_sure``;
        ``seeds``, those that both have; ``resampled``, what was resampled of each machine type;
        ``few_recordings``, the number of recordings where they are too few; ``systems``, short names of the
        two rows, and ``selectors``, which select them; ``subset``, ``resamples``, ``confidence``. Where one
        of the two is published there are neither intervals nor p-values
    marks : what is to be known of compared rows, by short name: that a search chose its settings, for example
    title : heading of the table
    """

    rows: tuple[Row, ...]
    marks: Mapping[str, str]
    title: str

    @property
    def overall(self) -> tuple[Row, ...]:
        """The rows over all machine types, one for each comparison."""
        return tuple(row for row in self.rows if row["machine_type"] == ALL)

    @property
    def difference(self) -> float:
        """The second row's official score over all machine types minus the first's."""
        return float(self._only["difference"])

    @property
    def interval(self) -> tuple[float, float]:
        """The lower and upper end of the difference's interval."""
        return self._only["difference_low"], self._only["difference_high"]

    @property
    def is_significant(self) -> bool:
        """Whether the interval on these machines excludes zero, with at least three seeds."""
        return bool(self._only["is_sure"])

    @property
    def _only(self) -> Row:
        if len(self.overall) > 1:
            raise InputError(
                f"there are {len(self.overall)} comparisons; 'overall' has the difference of each"
            )
        return self.overall[0]

    def tables(self) -> list[DisplayTable]:
        """Return the tables, with the differences in bold that are sure."""
        return comparison_tables(self.rows, self.marks, self.title)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first, *more = self.tables()
        yield first
        for table in more:
            yield ""
            yield table


def load_comparison(
    name: str,
    workspace: Workspace,
    selectors: Sequence[str | int],
    *,
    seeds: Sequence[int] | None = None,
    options: StoredRunOptions | None = None,
    subset: str | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
) -> Comparison:
    """Compare rows of the leaderboard with the first of them, on each machine type and on all of them.

    Parameters
    ----------
    name
        The name of a registered data set.
    workspace
        The data sets and stored results.
    selectors
        Two or more rows, as `asdbench.report.row_selectors` describes.
    seeds
        The seeds to compare; by default those that both rows of a comparison have.
    options
        Preset and settings of rows that are given by the name of a system alone.
    subset
        ``"dev"`` or ``"eval"``; by default dev if any of its test clips has a known label, else eval.
    resamples, confidence
        The number of bootstrap resamples, and the confidence of the intervals.

    Raises
    ------
    InputError
        Fewer than two rows are given, or one twice; a row does not exist or lacks scores; no label is known,
        or the labels do not suffice for the metrics; ``resamples`` or ``confidence`` is out of range.
    """
    data, store = catalog.load(workspace, name), JobStore.from_workspace(workspace)
    subset = subset or first_subset(labeled_clips(data))
    _check_request(selectors, seeds, data, subset)
    board = load_leaderboard(name, workspace, subset=subset, reference=True)
    rows = select_rows(selectors, board.rows, data=name, options=options, seeds=seeds or (0, 1, 2))
    _check_different(rows)
    by_type: Sequence[Row] = ()
    if any(map(is_published, rows)):
        by_type = load_leaderboard(name, workspace, subset=subset, reference=True, by_type=True).rows
    pairs = Pairs(data, store, subset, type_scores(by_type), seeds, resamples, confidence)
    shared: Row = {"subset": subset, "resamples": resamples, "confidence": confidence}
    names = short_labels(rows)
    lines = [
        line | {"systems": [names[0], short], "selectors": [label(rows[0]), label(row)]} | shared
        for row, short in zip(rows[1:], names[1:], strict=True)
        for line in pairs.lines(rows[0], row)
    ]
    compared = names[1] if len(names) == 2 else f"{len(names) - 1} rows"
    title = f"{compared} against {names[0]} on {name}{data.suffix(subset)}"
    return Comparison(tuple(with_holm(lines)), _marks(rows, names), title)


def with_holm(lines: Sequence[Row]) -> list[Row]:
    """Return the lines of all comparisons with ``p_holm`` and ``is_sure``.

    >>> line = {"machine_type": "all", "p_value": 0.03, "confidence": 0.95}
    >>> [(line["p_holm"], line["is_sure"]) for line in with_holm([line, line | {"p_value": 0.01}])]
    [(0.03, True), (0.02, True)]
    """
    corrected: dict[int, float] = {}
    for is_overall in (True, False):
        family = [
            place
            for place, line in enumerate(lines)
            if line["p_value"] is not None and (line["machine_type"] == ALL) == is_overall
        ]
        p_values = holm([lines[place]["p_value"] for place in family])
        corrected |= dict(zip(family, p_values, strict=True))
    return [
        line
        | {"p_holm": corrected.get(place)}
        | {"is_sure": place in corrected and corrected[place] <= 1 - line["confidence"]}
        for place, line in enumerate(lines)
    ]


def _check_request(
    selectors: Sequence[str | int], seeds: Sequence[int] | None, data: DataSet, subset: str
) -> None:
    if not labeled_types(data, subset=subset):
        raise InputError(
            f"no test clip of data set {data.name!r}{data.suffix(subset)} has a known label; a comparison "
            f"needs labels"
        )
    if len(selectors) < 2:
        raise InputError(f"give two or more rows to compare, as in 'asdbench compare 1 2 --data {data.name}'")
    if seeds is not None and not seeds:
        raise InputError("no seed is given; leave --seeds out for those that both rows have")


def _check_different(rows: Sequence[Row]) -> None:
    keys = [key_of_row(row) for row in rows]
    for place, row in enumerate(rows):
        if keys[place] in keys[:place]:
            raise InputError(f"{label(row)} is compared with itself; name different rows")


def _marks(rows: Sequence[Row], names: Sequence[str]) -> dict[str, str]:
    """Return what is to be known of rows: their settings where the short name lacks them, and their marks."""
    marks = {}
    for row, name in zip(rows, names, strict=True):
        words = [f"row {label(row)}"] if label(row) != name else []
        words += [_published_words(row)] if is_published(row) else choice_labels(row)
        words += _imported_words(row) if row.get("imported") else []
        if words:
            marks[name] = ", ".join(words)
    return marks


def _imported_words(row: Row) -> list[str]:
    source = row["imported"]["source"]
    return ["scored elsewhere and judged here" + (f" ({source})" if source else "")]


def _published_words(row: Row) -> str:
    rule = " under another rule, so that the difference means little" if is_by_another_rule(row) else ""
    return f"{row['tier']}{rule} ({row['reference']['source']})"
