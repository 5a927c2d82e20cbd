import csv
import io
import json

import pytest
from rich.console import Console
from rich.text import Text

from asdbench.errors import InputError
from asdbench.report.rendering import (
    Column,
    DisplayRow,
    DisplayTable,
    Report,
    numeric,
    render,
    to_csv,
    to_frame,
    to_html,
    to_markdown,
)

ROWS = [
    {
        "system": "a",
        "settings": {"epochs": 30, "bf16": True},
        "score": 0.1 + 0.2,
        "seeds": [0, 1],
        "ok": True,
    },
    {"system": "b, c", "settings": {}, "score": None, "seeds": [], "ok": False},
]
TABLE = DisplayTable(
    [Column("system"), *numeric("official\nscore")],
    [
        DisplayRow(["a|b", Text("61.00", "bold")]),
        DisplayRow(["c", "59.00"], is_bold=True, begins_section=True),
    ],
    "Title",
    "Caption.",
)


def printed(table: DisplayTable, width: int, **options: object) -> str:
    file = io.StringIO()
    assert render([], table, format="table", console=Console(file=file, width=width, **options)) is None
    return file.getvalue()


def test_csv_holds_every_value_in_full_and_nested_ones_as_text() -> None:
    text = render(ROWS, TABLE, format="csv")
    assert text == (
        "system,settings,score,seeds,ok\n"
        "a,epochs=30 bf16=true,0.30000000000000004,0 1,true\n"
        '"b, c",,,,false\n'
    )
    assert [row["seeds"] for row in csv.DictReader(io.StringIO(text))] == ["0 1", ""]


def test_csv_without_rows_is_empty() -> None:
    assert to_csv([]).strip() == ""


def test_json_keeps_values_and_nesting() -> None:
    text = render(ROWS, TABLE, format="json")
    assert text is not None
    assert json.loads(text) == ROWS
    assert text.endswith("]\n")


def test_json_refuses_what_is_not_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        render([{"score": float("nan")}], TABLE, format="json")


def test_markdown_escapes_pipes_and_marks_bold_cells() -> None:
    assert to_markdown(TABLE) == (
        "**Title**\n\n"
        "| system | official score |\n| :-- | --: |\n| a\\|b | **61.00** |\n| **c** | **59.00** |\n\n"
        "Caption.\n"
    )


def test_markdown_may_have_other_columns() -> None:
    other = DisplayTable([Column("other")], [])
    assert render([], TABLE, format="markdown", markdown=other) == "| other |\n| :-- |\n"


def test_a_terminal_shows_title_header_cells_and_caption_in_order() -> None:
    words = printed(TABLE, 80).split()
    assert [word for word in words if not set(word) <= set("─")] == [
        "Title", "official", "system", "score", "a|b", "61.00", "c", "59.00", "Caption."
    ]  # fmt: skip


def test_a_terminal_that_is_too_narrow_shows_the_narrow_table() -> None:
    wide = DisplayTable([Column("x" * 30, no_wrap=True)], [], narrow=DisplayTable([Column("short")], []))
    assert "short" in printed(wide, 20)
    assert "short" not in printed(wide, 80)


def test_of_many_tables_the_widest_that_fits_is_shown() -> None:
    narrow = DisplayTable([Column("tiny", no_wrap=True)], [])
    medium = DisplayTable([Column("medium" * 3, no_wrap=True)], [], narrow=narrow)
    wide = DisplayTable([Column("wide" * 10, no_wrap=True)], [], narrow=medium)
    assert [word in printed(wide, 30) for word in ("tiny", "medium", "wide")] == [False, True, False]
    assert [word in printed(wide, 10) for word in ("tiny", "medium", "wide")] == [True, False, False]


class TwoTables(Report):
    """A report with two tables, of which Markdown has another second one."""

    rows = ROWS

    def tables(self) -> list[DisplayTable]:
        return [TABLE, DisplayTable([Column("second")], [])]

    def markdown_tables(self) -> list[DisplayTable]:
        return [TABLE, DisplayTable([Column("other")], [])]


def test_a_report_has_every_form() -> None:
    report = TwoTables()
    assert json.loads(report.to_json()) == ROWS
    assert report.to_csv() == to_csv(ROWS)
    assert report.to_markdown() == to_markdown(TABLE) + "\n| other |\n| :-- |\n"
    assert "Title" in str(report)
    assert "second" in str(report)
    assert report._repr_html_().count("<table>") == 2
    assert report.to_text("table") == f"{report}\n"
    assert [report.to_text(name) for name in ("json", "csv", "markdown")] == [
        report.to_json(), report.to_csv(), report.to_markdown()
    ]  # fmt: skip
    assert report.frame.equals(to_frame(ROWS))
    with pytest.raises(InputError, match="no format 'jsn'; did you mean 'json'"):
        report.to_text("jsn")  # type: ignore[arg-type]


def test_a_frame_keeps_types_and_lists() -> None:
    frame = to_frame(ROWS)
    assert frame["settings"].to_list() == ["epochs=30 bf16=true", ""]
    assert frame["score"].to_list() == [0.1 + 0.2, None]
    assert frame["seeds"].to_list() == [[0, 1], []]
    assert frame["ok"].to_list() == [True, False]
    assert to_frame([]).is_empty()


def test_html_escapes_what_it_shows_and_keeps_bold_and_alignment() -> None:
    table = DisplayTable(
        [Column("<system>"), *numeric("score")],
        [DisplayRow(["a & b\nc", Text("61.00", "bold")]), DisplayRow([Text("fan")])],
        "<Title>",
        "Caption & more.",
    )
    text = to_html(table)
    assert "<p><b>&lt;Title&gt;</b></p>" in text
    assert '<th style="text-align: left">&lt;system&gt;</th>' in text
    assert "a &amp; b<br>c" in text
    assert '<td style="text-align: right"><b>61.00</b></td>' in text
    assert "<p>Caption &amp; more.</p>" in text


def test_brackets_in_cells_are_not_markup() -> None:
    assert "[bold]" in printed(DisplayTable([Column("[red]")], [DisplayRow(["[bold]"])]), 80)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="no format 'jsn'; did you mean 'json'"):
        render([], TABLE, format="jsn")  # type: ignore[arg-type]
