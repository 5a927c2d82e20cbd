"""The report as a page, as PNG and as PDF."""

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.io.workspace import Workspace
from asdbench.report.html import to_html, to_pdf, to_pngs
from asdbench.report.report_data import collect
from asdbench.report.sections import sections
from asdbench.testing import write_tiny
from asdbench.testing.scores import write_scores
from tests.report.made_up import made_up

EVIL = "<img src=x onerror=alert(1)>&'{{ 7 * 7 }}"


class Page(HTMLParser):
    """The elements of a page: tag and attributes, and the open ones."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    report = collect(*made_up(tmp_path_factory.mktemp("report")))
    return to_html(report, sections(report))


def test_a_page_is_made_of_landmarks_and_headings(page: str) -> None:
    parsed = Page(page)
    assert [len(parsed.all(tag)) for tag in ("header", "main", "footer", "nav", "h1")] == [1] * 5
    assert [section["id"] for section in parsed.all("section")][:2] == ["leaderboard", "types"]
    targets = {attributes.get("id") for _, attributes in parsed.elements}
    assert {link["href"][1:] for link in parsed.all("a") if link["href"]} <= targets
    assert parsed.all("html") == [{"lang": "en"}]
    assert all(head.get("scope") in ("col", "row") for head in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table")) > 0
    figures = [svg for svg in parsed.all("svg") if svg.get("class") == "figure"]
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in figures)
    assert all(audio["aria-label"] and "controls" in audio for audio in parsed.all("audio"))


def test_a_page_shows_that_one_can_scroll(page: str) -> None:
    parsed = Page(page)
    scrolled = [part for part in parsed.all("div") if part.get("class") == "scroll"]
    assert len(scrolled) >= len(parsed.all("table")) + 3
    assert "var(--shade), transparent" in page
    assert "Values as a table" in page
    assert "Values are in percent unless stated otherwise." in page


def test_every_identifier_is_unique(page: str) -> None:
    identifiers = [attributes["id"] for _, attributes in Page(page).elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_a_page_names_nothing_outside_of_itself(page: str) -> None:
    parsed = Page(page)
    for _, attributes in parsed.elements:
        for name in ("src", "href", "xlink:href", "srcset", "poster", "data"):
            assert re.match(r"#|data:", attributes.get(name) or "#"), attributes
    assert not parsed.all("script")
    assert not parsed.all("link")
    assert re.findall(r"https?://[^\s\"<]+", page) == []
    policy = next(meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none';")


def test_equal_results_give_equal_bytes(tmp_path: Path, page: str) -> None:
    report = collect(*made_up(tmp_path / "again"))
    parts = sections(report)
    assert to_html(report, parts) == page
    assert to_pdf(sections(report)) == to_pdf(sections(report))


def test_figures_are_png_and_pdf_files(tmp_path: Path) -> None:
    parts = sections(collect(*made_up(tmp_path, ["baseline-mse"], seeds=[0])))
    images = to_pngs(parts)
    assert {"scores.png", "types.png", "roc.png", "scores-baseline-mse.png", "cost-macs.png"} <= images.keys()
    assert all(content.startswith(b"\x89PNG") for content in images.values())
    assert to_pdf(parts).startswith(b"%PDF")


def test_names_cannot_inject_markup(tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path / "home")
    recordings = write_tiny(tmp_path / "recordings", machine_types=["fan"], durations_s=(0.5, 0.6))
    rows = []
    for index, file in enumerate(sorted(recordings.rglob("*.wav"))):
        split = "test" if "_test_" in file.name else "train"
        moved = file.rename(file.with_name(f"{index:03d}_<img src=x onerror=alert(1)>.wav"))
        label = ("anomaly" if "anomaly" in file.name else "normal") if split == "test" else "normal"
        domain = "target" if "_target_" in file.name else "source"
        rows.append([moved.relative_to(recordings).as_posix(), EVIL, split, label, domain])
    (recordings / "LICENSE").write_text("</p><script>alert(2)</script> license")
    with (recordings / "clips.csv").open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([["path", "machine_type", "split", "label", "domain"], *rows])
    data = catalog.add(workspace, "tiny", recordings, manifest=recordings / "clips.csv")
    store = JobStore.from_workspace(workspace)
    write_scores([ResolvedJob.from_configured(registry.configure("baseline-mse"), data, EVIL, seed=0)], store)
    report = collect(data, store)
    page = to_html(report, sections(report))
    assert report.errors
    parsed = Page(page)
    assert not parsed.all("script")
    assert not parsed.all("img")
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "&lt;script&gt;alert(2)" in page
    assert "{{ 7 * 7 }}" in page
