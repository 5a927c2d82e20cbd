"""The renderer of all reports: a table on a terminal or a web page, CSV, JSON, Markdown or a data frame.

Idea: a report has two forms. Its *rows* are dicts for programs and become CSV, JSON and a data frame; a
`DisplayTable` is for people and becomes a terminal table, HTML or Markdown. JSON keeps nested values. In a
CSV cell, a dict becomes ``key=value`` pairs and a list its items, both separated by spaces. A cell of a data
frame keeps a list and holds a dict as such a text.
"""

import html
import io
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
        The table to show where the terminal is too narrow for this one; it may have a narrower one in turn.
    """

    columns: Sequence[Column]
    rows: Sequence[DisplayRow]
    title: str = ""
    caption: str = ""
    is_ruled: bool = True
    narrow: "DisplayTable | None" = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self
        rich_table = _rich_table(table)
        while table.narrow is not None:
            width = console.measure(rich_table, options=options.update(width=10_000)).maximum
            if width <= options.max_width:
                break
            table = table.narrow
            rich_table = _rich_table(table)
        yield rich_table


class Report:
    """A report with rows for programs and tables for people; the base class of all results of the API.

    A notebook shows the tables as HTML, ``print`` as text. A subclass defines ``rows`` and ``tables``.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Duration(Report):
    ...     seconds: float
    ...
    ...     @property
    ...     def rows(self):
    ...         return [{"seconds": self.seconds}]
    ...
    ...     def tables(self):
    ...         return [DisplayTable(numeric("time (s)"), [DisplayRow([f"{self.seconds:.1f}"])])]
    >>> print(Duration(2.0).to_markdown(), end="")
    | time (s) |
    | --: |
    | 2.0 |
    >>> Duration(2.0).frame["seconds"].to_list()
    [2.0]
    """

    if TYPE_CHECKING:  # else a field of a dataclass would take it for a default

        @property
        def rows(self) -> Sequence[Row]:
            """The rows, one dict for each; all have the same keys."""

    def tables(self) -> Sequence[DisplayTable]:
        """Return the tables that a terminal shows."""
        raise NotImplementedError

    def markdown_tables(self) -> Sequence[DisplayTable]:
        """Return the tables for Markdown and HTML, which may have other columns than the terminal's."""
        return self.tables()

    @property
    def frame(self) -> "pl.DataFrame":
        """The rows as a polars data frame; a mapping such as the settings becomes ``key=value`` pairs."""
        return to_frame(self.rows)

    def to_json(self) -> str:
        """Return the rows as JSON."""
        return to_json(self.rows)

    def to_csv(self) -> str:
        """Return the rows as CSV."""
        return to_csv(self.rows)

    def to_markdown(self) -> str:
        """Return the tables as Markdown."""
        return "\n".join(map(to_markdown, self.markdown_tables()))

    def to_text(self, format: Format) -> str:
        """Return the report in a format; ``"table"`` is what ``print`` shows.

        Raises :class:`InputError` if the format does not exist.
        """
        match format:
            case "table":
                return f"{self}\n"
            case "json":
                return self.to_json()
            case "csv":
                return self.to_csv()
            case "markdown":
                return self.to_markdown()
        raise unknown_name("format", format, get_args(Format))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.tables()

    def __str__(self) -> str:
        text = io.StringIO()
        print_report(Console(file=text), self)
        return text.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        """Return the tables as HTML; notebooks call this."""
        return "\n".join(map(to_html, self.markdown_tables()))


def print_report(console: Console, report: Report) -> None:
    """Print a report; a line that must not be broken, such as a command, may be longer than the console."""
    console.print(report, crop=False)


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


def to_html(table: DisplayTable) -> str:
    """Return a table as an HTML fragment, with its title above and its caption below.

    >>> to_html(DisplayTable(numeric("AUC"), [DisplayRow(["61.00"])])).splitlines()[-2]
    '<tr><td style="text-align: right">61.00</td></tr>'
    """
    headers = [html.escape(" ".join(column.header.split())) for column in table.columns]
    lines = [f"<p><b>{html.escape(table.title)}</b></p>"] if table.title else []
    lines += ["<table>", _html_row("th", headers, table.columns)]
    for row in table.rows:
        cells = [_html_cell(cell, bold=row.is_bold) for cell in row.cells]
        lines.append(_html_row("td", cells, table.columns))
    lines.append("</table>")
    if table.caption:
        lines.append(f"<p>{html.escape(table.caption)}</p>")
    return "\n".join(lines)


def to_frame(rows: Sequence[Row]) -> "pl.DataFrame":
    """Return rows as a data frame; a mapping becomes ``key=value`` pairs.

    >>> to_frame([{"system": "mine", "settings": {"epochs": 30}, "seeds": [0, 1]}]).rows()
    [('mine', 'epochs=30', [0, 1])]
    """
    import polars as pl

    names = list(rows[0]) if rows else []
    return pl.DataFrame({name: [_frame_cell(row[name]) for row in rows] for name in names}, strict=False)


def _frame_cell(value: object) -> object:
    return assignments(value) if isinstance(value, Mapping) else value


def _csv_cell(value: object) -> object:
    if isinstance(value, Mapping):
        return assignments(value) or None
    return " ".join(map(str, value)) or None if isinstance(value, list | tuple) else value


def _html_row(tag: str, cells: Sequence[str], columns: Sequence[Column]) -> str:
    styled = (
        f'<{tag} style="text-align: {column.justify}">{cell}</{tag}>'
        for cell, column in zip(cells, columns, strict=False)  # a heading has the first cell only
    )
    return f"<tr>{''.join(styled)}</tr>"


def _html_cell(cell: str | Text, *, bold: bool) -> str:
    text = html.escape(str(cell)).replace("\n", "<br>")
    return f"<b>{text}</b>" if _is_bold(cell, bold) and text else text


def _markdown_cell(cell: str | Text, *, bold: bool) -> str:
    text = " ".join(str(cell).split()).replace("|", "\\|")
    return f"**{text}**" if _is_bold(cell, bold) and text else text


def _is_bold(cell: str | Text, bold: bool) -> bool:
    return bold or (isinstance(cell, Text) and "bold" in str(cell.style))


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
