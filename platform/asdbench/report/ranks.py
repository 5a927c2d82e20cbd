"""Average ranks of the leaderboard's rows over machine types, with tests of whether they differ.

Idea: `asdbench.metrics.rank_tests` takes machine types as cases. Rows that no test tells apart form a group;
where Friedman's test finds no difference at all, all rows are one group.

Conventions: only rows with a score on all machine types are ranked, each by its mean over seeds. The p value
of a row is that of Wilcoxon's signed-rank test against the row with the best average rank, corrected by
Holm's method for the number of rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult

from asdbench.errors import InputError
from asdbench.io.files import replacing
from asdbench.io.workspace import Workspace
from asdbench.metrics.rank_tests import Friedman, critical_difference, friedman, groups, holm, ranks, wilcoxon
from asdbench.report.figures import style
from asdbench.report.formatting import format_p_value
from asdbench.report.leaderboard import has_rank
from asdbench.report.leaderboard_selection import Selection
from asdbench.report.leaderboard_table import name_cell
from asdbench.report.leaderboard_view import ALL_ROWS, load_leaderboard
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row, numeric
from asdbench.report.row_pairs import TypeScores, key_of_row, type_scores
from asdbench.report.row_selectors import short_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENCE = 0.95
_MOST_ROWS = 20
_FEW_TYPES = 5
_WIDTH = 49  # of the diagram on a terminal, in characters
_FIGURE_KINDS = ("png", "svg", "pdf")
_MARKS = ("reference", "imported", "chosen_on_labels", "transductive", "other_versions", "subset")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Ranks(Report):
    """The average ranks of rows over machine types.

    Printed, it is a table and a critical-difference diagram; `figure` draws the diagram.

    Attributes
    ----------
    rows : one dict for each row, the best average rank first: ``number``, ``system``, ``settings``,
        ``tuned``, ``reference`` and marks as on the leaderboard, ``average_rank``, ``ranks`` (by type),
        ``groups`` (letters that it shares with the rows that no test tells apart from it), ``p_value``
        (``None`` for the first row) and ``official_score``
    friedman : the test of whether any rows differ
    critical_difference : of two average ranks, by Nemenyi's test
    groups : the places of the first and last row of each group
    notes : what a reader should know about the tests
    title : heading of the table
    """

    rows: tuple[Row, ...]
    friedman: Friedman
    critical_difference: float
    groups: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]
    title: str

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types, over which ranks are averaged."""
        return tuple(self.rows[0]["ranks"])

    def tables(self) -> list[DisplayTable]:
        """Return the table and the diagram."""
        return [self._table(), self._diagram()]

    def markdown_tables(self) -> list[DisplayTable]:
        """Return the table; the diagram needs letters of one width."""
        return [self._table()]

    def figure(self) -> "Figure":
        """Draw the critical-difference diagram."""
        from asdbench.report.figures.ranks import RankedRow, critical_difference_diagram

        labels = short_labels(self.rows)
        ranked = [RankedRow(label, row["average_rank"]) for label, row in zip(labels, self.rows, strict=True)]
        return critical_difference_diagram(ranked, self.groups, difference=self.critical_difference)

    def save_figure(self, path: Path) -> None:
        """Write the critical-difference diagram as a PNG, SVG or PDF file.

        Raises :class:`InputError` if the name has another ending, or the file cannot be written.
        """
        kind = path.suffix.removeprefix(".").lower()
        if kind not in _FIGURE_KINDS:
            raise InputError(f"{str(path)!r} does not end in {', '.join(f'.{k}' for k in _FIGURE_KINDS)}")
        with style.parameters():
            try:
                with replacing(path) as partial:
                    self.figure().savefig(partial, format=kind, dpi=150)
            except OSError as error:
                raise InputError(
                    f"the figure cannot be written to {str(path)!r} ({error.strerror or error})"
                ) from error

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table, diagram = self.tables()
        yield table
        yield ""
        yield diagram

    def _table(self) -> DisplayTable:
        rows = [
            DisplayRow(
                [
                    str(row["number"] or ""),
                    name_cell(row),
                    f"{row['average_rank']:.2f}",
                    " ".join(row["groups"]),
                    "" if row["p_value"] is None else format_p_value(row["p_value"]),
                ]
            )
            for row in self.rows
        ]
        columns = [Column("#", "right", no_wrap=True), Column("system"), *numeric("average rank")]
        columns += [Column("group"), *numeric("p-value against the first")]
        return DisplayTable(columns, rows, self.title, self._caption())

    def _caption(self) -> str:
        test = self.friedman
        return (
            f"Rank by official score, averaged over {len(self.machine_types)} machine types; 1 is the best. "
            f"Friedman's test: chi-squared {test.statistic:.2f}, p-value {format_p_value(test.p_value)}. "
            f"Nemenyi's critical difference: {self.critical_difference:.2f}. {self._group_sentence()} "
            f"p-value: Wilcoxon's signed-rank test against the first row, Holm-corrected for "
            f"{len(self.rows) - 1} comparisons."
        )

    def _group_sentence(self) -> str:
        if self.friedman.p_value >= 1 - CONFIDENCE:
            return "As Friedman's test finds no difference, all rows are one group."
        return f"Rows that share a letter are not told apart at {100 * CONFIDENCE:g} % confidence."

    def _diagram(self) -> DisplayTable:
        labels = short_labels(self.rows)
        places = [_place(row["average_rank"], len(self.rows)) for row in self.rows]
        rows = [DisplayRow(["", _axis(len(self.rows))])]
        rows += [DisplayRow([label, " " * place + "●"]) for label, place in zip(labels, places, strict=True)]
        rows += [
            DisplayRow(
                [f"group {_LETTERS[index]}", " " * places[first] + "━" * (places[last] - places[first] + 1)]
            )
            for index, (first, last) in enumerate(self.groups)
        ]
        columns = [Column("average rank"), Column("", no_wrap=True)]
        return DisplayTable(columns, rows, is_ruled=False)


def _place(rank: float, n_rows: int) -> int:
    return round((rank - 1) / (n_rows - 1) * (_WIDTH - 1))


def _axis(n_rows: int) -> str:
    """Return the numbers of ranks above their places.

    >>> _axis(3).split()
    ['1', '2', '3']
    """
    line = [" "] * (_WIDTH + 1)
    for rank in range(1, n_rows + 1, -(-n_rows // 10)):
        line[_place(rank, n_rows) : _place(rank, n_rows) + len(str(rank))] = str(rank)
    return "".join(line).rstrip()


def load_ranks(
    name: str,
    workspace: Workspace,
    *,
    reference: bool = False,
    subset: str | None = None,
    selection: Selection = ALL_ROWS,
) -> Ranks:
    """Return the average ranks of the rows of a leaderboard; parameters as in `load_leaderboard`.

    Of very many rows the best are ranked.

    Raises
    ------
    InputError
        As `load_leaderboard` does; or there are fewer than three rows with a score on all machine types, or
        fewer than two machine types.
    """
    board = load_leaderboard(name, workspace, reference=reference, subset=subset, selection=selection)
    by_type = load_leaderboard(name, workspace, by_type=True, reference=reference, subset=board.subset)
    scores = type_scores(by_type.rows)
    machine_types = {row["machine_type"] for row in by_type.rows}
    complete = [
        row for row in board.rows if has_rank(row) and scores.get(key_of_row(row), {}).keys() == machine_types
    ]
    shown = board.title.removeprefix("Leaderboard of ")
    _check_enough(complete, scores, shown)
    notes = [*board.notes, *_notes(complete)]
    ranked = complete[:_MOST_ROWS]
    return rank_rows(
        ranked, [scores[key_of_row(row)] for row in ranked], title=f"Average ranks on {shown}", notes=notes
    )


def rank_rows(
    rows: Sequence[Row], scores: Sequence[Mapping[str, float]], *, title: str, notes: Sequence[str] = ()
) -> Ranks:
    """Return the ranks of rows of the leaderboard, from the official score of each by machine type.

    Raises :class:`InputError` for fewer than three rows or two machine types.

    >>> rows = [{"number": n, "system": name, "settings": {}, "tuned": None, "official_score": 0.5}
    ...         for n, name in enumerate("abc", start=1)]
    >>> scores = [{"fan": 0.7, "valve": 0.6}, {"fan": 0.8, "valve": 0.7}, {"fan": 0.5, "valve": 0.5}]
    >>> ranked = rank_rows(rows, scores, title="Ranks")
    >>> [(row["system"], row["average_rank"], row["groups"]) for row in ranked.rows]
    [('b', 1.0, ['a']), ('a', 2.0, ['a']), ('c', 3.0, ['a'])]
    """
    types = list(scores[0])
    values = np.array([[of_row[name] for name in types] for of_row in scores])
    by_type = ranks(values)
    order = np.argsort(by_type.mean(axis=1), kind="stable")
    values, by_type = values[order], by_type[order]
    average = by_type.mean(axis=1).tolist()
    test = friedman(values)
    difference = critical_difference(len(rows), len(types), confidence=CONFIDENCE)
    is_one_group = test.p_value >= 1 - CONFIDENCE
    grouped = [(0, len(rows) - 1)] if is_one_group else groups(average, difference)
    p_values = [None, *holm([wilcoxon(values[0], other) for other in values[1:]])]
    ranked = [
        {name: rows[index][name] for name in ("number", "system", "settings", "tuned")}
        | {name: rows[index].get(name) for name in _MARKS}
        | {"average_rank": average[place]}
        | {"ranks": dict(zip(types, by_type[place].tolist(), strict=True))}
        | {"groups": [_LETTERS[n] for n, (first, last) in enumerate(grouped) if first <= place <= last]}
        | {"p_value": p_values[place], "official_score": rows[index]["official_score"]}
        for place, index in enumerate(order)
    ]
    return Ranks(tuple(ranked), test, difference, tuple(grouped), (*notes, *_power_notes(types)), title)


def _check_enough(rows: Sequence[Row], scores: TypeScores, shown: str) -> None:
    if len(rows) < 3:
        raise InputError(
            f"ranks take at least three rows with a score on all machine types, and {shown} has {len(rows)}; "
            f"'asdbench compare' takes two"
        )
    types = list(scores[key_of_row(rows[0])])
    if len(types) < 2:
        raise InputError(f"ranks take at least two machine types, and {shown} has only {types[0]}")


def _notes(rows: Sequence[Row]) -> list[str]:
    if len(rows) <= _MOST_ROWS:
        return []
    return [f"ranked are the best {_MOST_ROWS} of {len(rows)} rows; --systems and --preset choose others"]


def _power_notes(machine_types: Sequence[str]) -> list[str]:
    if len(machine_types) >= _FEW_TYPES:
        return []
    return [
        f"with {len(machine_types)} machine types the tests have little power, and Wilcoxon's p-value is at "
        f"least {2 ** (1 - len(machine_types)):g}: rows of one group may well differ; see 'asdbench compare'"
    ]
