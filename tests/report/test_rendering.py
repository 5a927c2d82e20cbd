import csv
import io
import json

import pytest
from rich.console import Console
from rich.text import Text

from asdbench.errors import InputError
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, numeric, render, to_csv, to_markdown

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


def test_brackets_in_cells_are_not_markup() -> None:
    assert "[bold]" in printed(DisplayTable([Column("[red]")], [DisplayRow(["[bold]"])]), 80)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="no format 'jsn'; did you mean 'json'"):
        render([], TABLE, format="jsn")  # type: ignore[arg-type]
