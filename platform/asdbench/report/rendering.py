"""The renderer of all reports: a table on a terminal, CSV, JSON or Markdown.

Idea: a report has two forms. Its *rows* are dicts for programs and become CSV and JSON; a `DisplayTable` is
for people and becomes a terminal table or Markdown. JSON keeps nested values. In a CSV cell, a dict becomes
``key=value`` pairs and a list its items, both separated by spaces.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from asdbench.config import assignments
from asdbench.errors import unknown_name

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, Any]
Format = Literal["table", "csv", "json", "markdown"]


@dataclass(frozen=True)
class Column:
    """A column of a display table; a line break in the header stays one on a terminal."""

    header: str
    justify: Literal["left", "right"] = "left"
    no_wrap: bool = False


@dataclass(frozen=True)
class DisplayRow:
    """A row of a display table.

    Attributes
    ----------
    cells
        One for each column; a `rich.text.Text` with the style ``bold`` is bold in Markdown too.
    is_bold
        Whether all of its cells are bold.
    begins_section
        Whether a terminal separates it from the row above.
    """

    cells: Sequence[str | Text]
    is_bold: bool = False
    begins_section: bool = False


@dataclass(frozen=True)
class DisplayTable:
    """A table for people, which a rich console can print.

    Attributes
    ----------
    columns, rows, title, caption
        Its content.
    is_ruled
        Whether a terminal draws a line under the header.
    narrow
        The table to show where the terminal is too narrow for this one.
    """

    columns: Sequence[Column]
    rows: Sequence[DisplayRow]
    title: str = ""
    caption: str = ""
    is_ruled: bool = True
    narrow: "DisplayTable | None" = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rich_table = _rich_table(self)
        if self.narrow is not None:
            width = console.measure(rich_table, options=options.update(width=10_000)).maximum
            rich_table = rich_table if width <= options.max_width else _rich_table(self.narrow)
        yield rich_table


def numeric(*headers: str) -> list[Column]:
    """Return right-aligned columns.

    >>> [column.justify for column in numeric("AUC", "pAUC")]
    ['right', 'right']
    """
    return [Column(header, "right") for header in headers]


def render(
    rows: Sequence[Row] | Row,
    table: DisplayTable,
    *,
    format: Format,
    markdown: DisplayTable | None = None,
    console: Console | None = None,
) -> str | None:
    """Print a table and return ``None``, or return the rows as text in another format.

    Parameters
    ----------
    rows
        The report for programs; JSON may also be a single dict.
    table
        The report for people.
    format
        ``"table"``, ``"csv"``, ``"json"`` or ``"markdown"``.
    markdown
        The table for Markdown, if it has other columns than the terminal's.
    console
        Where the table is printed; standard output by default.

    Raises
    ------
    InputError
        The format does not exist.

    Examples
    --------
    >>> table = DisplayTable([Column("system"), *numeric("AUC")], [DisplayRow(["mine", "61.00"])])
    >>> print(render([{"system": "mine", "auc": 0.61}], table, format="csv"), end="")
    system,auc
    mine,0.61
    >>> print(render([], table, format="markdown"), end="")
    | system | AUC |
    | :-- | --: |
    | mine | 61.00 |
    """
    if format == "table":
        (console or Console()).print(table)
        return None
    if format == "json":
        return to_json(rows)
    if format == "csv":
        return to_csv([rows] if isinstance(rows, dict) else rows)
    if format == "markdown":
        return to_markdown(markdown or table)
    raise unknown_name("format", format, get_args(Format))


def frame_table(frame: "pl.DataFrame", *, title: str = "") -> DisplayTable:
    """Return a data frame as a table, with two decimals for floats and empty cells for missing values.

    >>> import polars as pl
    >>> to_markdown(frame_table(pl.DataFrame({"type": ["fan"], "seconds": [10.0]}))).splitlines()[-1]
    '| fan | 10.00 |'
    """
    columns = [
        Column(name, "right" if dtype.is_numeric() else "left") for name, dtype in frame.schema.items()
    ]
    rows = [
        DisplayRow(["" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in row])
        for row in frame.iter_rows()
    ]
    return DisplayTable(columns, rows, title)


def to_json(content: Sequence[Row] | Row) -> str:
    """Return rows as JSON.

    >>> print(to_json({"system": "mine"}), end="")
    {
      "system": "mine"
    }
    """
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV, with the keys of the first row as header; all rows have the same keys.

    >>> print(to_csv([{"settings": {"epochs": 30, "bf16": True}, "seeds": [0, 1]}]), end="")
    settings,seeds
    epochs=30 bf16=true,0 1
    """
    import polars as pl  # here, because 'asdbench status' does without it

    names = list(rows[0]) if rows else []
    frame = pl.DataFrame({name: [_csv_cell(row[name]) for row in rows] for name in names}, strict=False)
    return frame.write_csv()


def to_markdown(table: DisplayTable) -> str:
    """Return a table as Markdown, with its title above and its caption below."""
    headers = [" ".join(column.header.split()) for column in table.columns]
    lines: list[Iterable[str]] = [headers, ["--:" if c.justify == "right" else ":--" for c in table.columns]]
    lines += [[_markdown_cell(cell, bold=row.is_bold) for cell in row.cells] for row in table.rows]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(filter(None, [table.title and f"**{table.title}**", body, table.caption])) + "\n"


def _csv_cell(value: object) -> object:
    if isinstance(value, Mapping):
        return assignments(value) or None
    return " ".join(map(str, value)) or None if isinstance(value, list | tuple) else value


def _markdown_cell(cell: str | Text, *, bold: bool) -> str:
    is_bold = bold or (isinstance(cell, Text) and "bold" in str(cell.style))
    text = " ".join(str(cell).split()).replace("|", "\\|")
    return f"**{text}**" if is_bold and text else text


def _rich_table(table: DisplayTable) -> Table:
    rich_table = Table(
        title=table.title or None,
        title_justify="left",
        title_style="bold",
        caption=table.caption or None,
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD if table.is_ruled else None,
        header_style="bold",
        pad_edge=table.is_ruled,
        collapse_padding=not table.is_ruled,
    )
    for column in table.columns:
        rich_table.add_column(
            Text(column.header), justify=column.justify, no_wrap=column.no_wrap, overflow="fold"
        )
    for row in table.rows:
        if row.begins_section:
            rich_table.add_section()
        cells = [Text(cell) if isinstance(cell, str) else cell for cell in row.cells]
        rich_table.add_row(*cells, style="bold" if row.is_bold else "")
    return rich_table
