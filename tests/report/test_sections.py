"""The sections of a report."""

from pathlib import Path

import pytest

from asdbench.report.rendering import DisplayTable
from asdbench.report.report_data import SearchSummary, collect, stored_searches
from asdbench.report.sections import Figures, sections
from asdbench.search.importances import parameter_importances
from tests.report.made_up import made_up, save_study

ALL = ["leaderboard", "types", "differences", "roc", "scores", "cost", "errors", "embeddings", "training"]


def test_a_report_has_all_sections(tmp_path: Path) -> None:
    data, store = made_up(tmp_path)
    save_study(data, store)
    searches = [SearchSummary(r, parameter_importances(r)) for r in stored_searches(store, data)]
    found = sections(collect(data, store, searches=searches))
    assert [section.name for section in found] == [*ALL, "searches"]
    drawings = [
        drawing
        for section in found
        for block in section.blocks
        if isinstance(block, Figures)
        for drawing in block.drawings
    ]
    assert len({drawing.name for drawing in drawings}) == len(drawings)
    assert all(drawing.title and drawing.description for drawing in drawings)
    by_name = {section.name: section for section in found}
    assert isinstance(by_name["leaderboard"].blocks[1], DisplayTable)
    assert [block.heading for block in by_name["scores"].blocks] == ["baseline-mse", "baseline-maha"]
    assert [block.heading for block in by_name["training"].blocks] == [
        "baseline-mse"
    ]  # one training for both
    assert [len(block.drawings) for block in by_name["searches"].blocks] == [1, 1]
    assert "6 trials" in by_name["searches"].blocks[0].caption
    assert "states no license" in by_name["errors"].paragraphs[1]


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"seeds": [0], "machine_types": ["fan"], "systems": ["baseline-mse"]}, {"differences"}),
        ({"embeddings": False}, {"embeddings"}),
        ({"systems": []}, set(ALL[1:])),
    ],
)
def test_what_there_is_nothing_of_is_left_out(tmp_path: Path, options: dict, missing: set[str]) -> None:  # type: ignore[type-arg]
    found = [section.name for section in sections(collect(*made_up(tmp_path, **options)))]
    assert found == [name for name in ALL if name not in missing]
