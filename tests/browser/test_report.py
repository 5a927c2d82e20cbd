"""The report in a browser: no request leaves it, it follows the theme, and a phone shows it whole."""

from pathlib import Path
from typing import Any

import pytest

from asdbench.report.html import to_html
from asdbench.report.report_data import collect
from asdbench.report.sections import sections
from tests.report.made_up import made_up


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    report = collect(*made_up(folder))
    file = folder / "report.html"
    file.write_text(to_html(report, sections(report)), encoding="utf-8")
    return file


def opened(browser: Any, file: Path, *, width: int = 1200, scheme: str = "light") -> tuple[Any, list[str]]:
    """Return the page, and what it asked for or complained about."""
    page, faults = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme), []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("data:", file.as_uri())) else faults.append(request.url)
        ),
    )
    page.goto(file.as_uri())
    return page, faults


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (390, "light")])
def test_a_report_loads_nothing_and_fits(chromium: Any, page_file: Path, width: int, scheme: str) -> None:
    page, faults = opened(chromium, page_file, width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert faults == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.figure").count() >= 18
    first = page.locator("svg.figure").first.bounding_box()
    assert first["width"] > 300
    page.close()


def test_figures_follow_the_theme(chromium: Any, page_file: Path) -> None:
    style = "element => getComputedStyle(element)"
    colors = {}
    for scheme in ("light", "dark"):
        page, _ = opened(chromium, page_file, scheme=scheme)
        text = page.locator("svg.figure text").first
        colors[scheme] = (
            page.locator("body").evaluate(f"{style}.backgroundColor"),
            text.evaluate(f"{style}.fill"),
        )
        page.close()
    assert colors["light"][0] == "rgb(254, 254, 254)"
    assert colors["dark"][0] == "rgb(22, 26, 32)"
    assert colors["light"][1] != colors["dark"][1]


def test_a_clip_can_be_heard(chromium: Any, page_file: Path) -> None:
    page, faults = opened(chromium, page_file)
    heard = page.locator("audio").first.evaluate(
        """audio => new Promise(done => {
            audio.onloadedmetadata = () => done(audio.duration);
            audio.onerror = () => done(-1);
            audio.preload = "metadata"; audio.load();
        })"""
    )
    assert 0.4 < heard < 1.0
    assert faults == []
    page.close()
