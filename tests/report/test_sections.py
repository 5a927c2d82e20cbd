"""The sections of a report."""

from pathlib import Path

import pytest

from asdbench.report.blocks import Figures
from asdbench.report.figures.style import series_color
from asdbench.report.html import to_html
from asdbench.report.rendering import DisplayTable
from asdbench.report.report_data import SearchSummary, collect, stored_searches
from asdbench.report.sections import sections
from asdbench.search.importances import parameter_importances
from tests.report.made_up import made_up, save_study, score

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


@pytest.mark.filterwarnings("error")
def test_one_machine_type_of_three_has_figures(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, systems=[], machine_types=["bearing", "fan", "valve"])
    score("baseline-mse", data, store, [0], ["valve"])
    report = collect(data, store)
    found = {section.name: section for section in sections(report)}
    assert list(found) == [name for name in ALL if name not in ("differences", "cost")]
    (heat_map,) = found["types"].blocks
    assert isinstance(heat_map, Figures)
    assert "the lowest on average on valve" in heat_map.drawings[0].description
    assert heat_map.table is not None
    assert heat_map.table.rows[0].cells[1:3] == ["–", "–"]
    assert [drawing.title for drawing in found["roc"].blocks[0].drawings] == ["ROC curves on valve"]  # type: ignore[union-attr]
    assert "seeds <b>1</b>" in to_html(report, list(found.values()))


def test_a_system_has_its_color_where_others_lack_the_machine_type(tmp_path: Path) -> None:
    data, store = made_up(tmp_path, systems=[])
    score("baseline-maha", data, store, [0], ["fan"])
    score("baseline-mse", data, store, [0], ["valve"])
    report = collect(data, store)
    (roc,) = next(section for section in sections(report) if section.name == "roc").blocks
    assert isinstance(roc, Figures)
    colors = {drawing.title[-5:]: drawing.figure.axes[0].lines[1].get_color() for drawing in roc.drawings}
    assert colors == {"n fan": series_color(0), "valve": series_color(1)}


def test_the_seeds_of_differences_are_named(tmp_path: Path) -> None:
    found = sections(collect(*made_up(tmp_path, seeds=[0])))
    (block,) = next(section for section in found if section.name == "differences").blocks
    assert isinstance(block, Figures)
    assert "over seed 0, which all have" in block.caption


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (
            {"seeds": [0], "machine_types": ["fan"], "systems": ["baseline-mse"], "separation": 1.0},
            {"differences"},
        ),
        ({"embeddings": False}, {"embeddings"}),
        ({"systems": []}, set(ALL[1:])),
    ],
)
def test_what_there_is_nothing_of_is_left_out(tmp_path: Path, options: dict, missing: set[str]) -> None:  # type: ignore[type-arg]
    found = [section.name for section in sections(collect(*made_up(tmp_path, **options)))]
    assert found == [name for name in ALL if name not in missing]
