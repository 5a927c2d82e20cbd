"""The documentation as a site: builds without a warning, is complete, requests nothing from other hosts."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cyclopts import App
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

import asdbench
from asdbench import registry
from asdbench.cli.main import app
from asdbench.config import settings_of
from sitegen.command_page import command_page
from sitegen.notebook_page import notebook_page

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PLUGIN = '''
"""Listens to the sea.

It hears :class:`waves`.
"""
from dataclasses import dataclass
from asdbench import Choice, InputSpec, MelSpec, BatchPlan, Range, System, tunable

@dataclass(frozen=True)
class Config:
    depth_m: float = tunable(11.5, Range(1, 100, log=True), minimum=0.5)
    shore: str = tunable("sandy", Choice("sandy", "rocky"), affects="fusion", when={"depth_m": (11.5,)})

class Sea(System[Config]):
    citation = "@misc{sea, title={The sea}}"
    presets = {"fast": {"depth_m": 2.0}}

    @classmethod
    def input_spec(cls, config):
        return InputSpec(MelSpec(), window_frames=64, window_hop_frames=64)

    @classmethod
    def batch_plan(cls, config):
        return BatchPlan(size=8, draw="window-per-clip")

    def stages(self, steps_per_epoch):
        return []

    def components(self, batch):
        return {"waves": batch.windows.mean()}
'''


def add_plugin(folder: Path) -> Path:
    """Install the system ``sea`` in a folder, as pip does."""
    (folder / "sea-1.0.dist-info").mkdir(parents=True)
    (folder / "sea-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: sea\nVersion: 1.0\n")
    (folder / "sea-1.0.dist-info" / "entry_points.txt").write_text("[asdbench.systems]\nsea = the_sea:Sea\n")
    (folder / "the_sea.py").write_text(PLUGIN)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the site, built with one more system; a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.syspath_prepend(str(add_plugin(folder / "plugin")))
        build_site(site_dir=str(folder / "site"))
        yield folder / "site"
    registry.get.cache_clear()


def build_site(**options: object) -> None:
    config = load_config(str(ROOT / "mkdocs.yml"), strict=True, **options)
    config.plugins.on_startup(command="build", dirty=False)
    try:
        build(config)
    finally:
        config.plugins.on_shutdown()


def text_of(page: Path) -> str:
    """Return what a reader sees of a page."""
    article = page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", article))


@pytest.mark.parametrize(
    ("page", "warning"),
    [
        ("[away](gone.md)", "'gone.md'"),
        ("[there](index.md#nowhere)", "'index.md#nowhere'"),
        ("[up](../README.md)", "'../README.md'"),
        ("", 'not included in the "nav"'),
    ],
)
def test_what_is_broken_fails_the_build(
    page: str, warning: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(page)
    (tmp_path / "docs" / "more.md").write_text("# More")
    nav = ["index.md", "more.md"] if page else ["index.md"]
    reduced = {"docs_dir": str(tmp_path / "docs"), "nav": nav, "hooks": [], "plugins": []}
    with pytest.raises(Abort):
        build_site(site_dir=str(tmp_path / "site"), **reduced, theme="mkdocs", extra_css=[])
    assert warning in caplog.text


def test_make_docs_builds_strictly() -> None:
    done = subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "mkdocs build --strict" in done.stdout


def test_a_new_system_is_on_the_site(site: Path) -> None:
    assert 'href="sea.html"' in (site / "reference/systems/index.html").read_text()
    assert "Listens to the sea." in text_of(site / "reference/systems/index.html")
    text = text_of(site / "reference/systems/sea.html")
    for part in (
        "It hears waves.",
        "depth_m 11.5 at least 0.5 1 to 100 (log) retraining",
        "shore sandy sandy, rocky depth_m = 11.5 refusion",
        "fast depth_m=2.0",
        "@misc{sea, title={The sea}}",
    ):
        assert part in text


def test_every_setting_of_every_system_is_on_the_site(site: Path) -> None:
    for name in registry.names():
        text = text_of(site / f"reference/systems/{name}.html")
        configured = registry.configure(name)
        for part in filter(None, (configured.trained, configured)):
            for setting in settings_of(part.system.Config):
                assert f" {setting} " in text, (name, setting)
        assert configured.system.citation.split()[0] in text


def test_every_command_is_on_the_site(site: Path) -> None:
    page = (site / "reference/cli.html").read_text()
    names = [name for name in app if not name.startswith("-")]
    assert len(names) > 10
    for name in names:
        assert f'id="asdbench-{name}"' in page, name
    assert "Exit codes: 0 success" in text_of(site / "reference/cli.html")


def test_a_new_command_is_on_its_page() -> None:
    shop = App(name="shop", help="A shop.")

    @shop.command
    def buy(thing: str, *, cash: bool = False) -> None:
        """Buy a thing.

        Parameters
        ----------
        thing
            What to buy.
        cash
            Pay at once.
        """

    page = command_page(shop)
    assert "## shop buy" in page
    assert "Pay at once." in page


def test_every_public_name_is_on_the_site(site: Path) -> None:
    pages = "".join(page.read_text() for page in (site / "reference/api").glob("*.html"))
    for name in asdbench.MODULE_OF:
        assert f'id="asdbench.{name}"' in pages, name
    assert ":class:" not in pages


def test_diagrams_and_formulas_are_drawn(site: Path) -> None:
    architecture, metrics = (site / f"{name}.html" for name in ("architecture", "metrics"))
    drawn = re.findall(r'<figure class="diagram"[^>]*><svg id="([\w-]+)"', architecture.read_text())
    assert len(set(drawn)) == (ROOT / "docs/architecture.md").read_text().count("```mermaid") > 1
    assert metrics.read_text().count("<math ") == (ROOT / "docs/metrics.md").read_text().count("```math") > 1


def test_a_notebook_becomes_a_page(tmp_path: Path) -> None:
    outputs = [
        {"output_type": "stream", "text": ["two\n"]},
        {"output_type": "display_data", "data": {"image/png": "aGk=\n", "text/plain": "a figure"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Tour\n", "Hello."]},
        {"cell_type": "code", "source": "print('two')", "outputs": outputs},
    ]
    (tmp_path / "tour.ipynb").write_text(json.dumps({"cells": cells}))
    page = notebook_page(tmp_path / "tour.ipynb")
    assert page.startswith("# Tour\nHello.\n")
    assert "````python\nprint('two')\n````\n\n````text\ntwo\n````" in page
    assert "](data:image/png;base64,aGk=)" in page
    assert "a figure" not in page


class Loaded(HTMLParser):
    """Collects the addresses that a page loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name in ("src", "srcset", "poster", "data") or (name == "href" and tag != "a")):
                self.addresses.append(value)


def test_a_page_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = Loaded()
        loaded.feed(text)
        assert [address for address in loaded.addresses if urlsplit(address).netloc] == [], page
        # what would make the theme's script load Mermaid or ask GitHub for a repository
        assert 'class="mermaid"' not in text
        assert 'data-md-component="source"' not in text
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), (
            style
        )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_search_works_from_files_and_nothing_is_requested(site: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    requests: list[str] = []
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("architecture", "metrics", "reference/cli", "reference/systems/sea", "index"):
            page.goto((site / f"{name}.html").as_uri())
        page.get_by_placeholder("Search").click()
        page.get_by_placeholder("Search").press_sequentially("pseudo-anomaly")
        page.locator(".md-search-result__link").first.wait_for(timeout=60_000)
        found = page.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.href)")
        browser.close()
    assert any("glossary.html" in link for link in found)
    assert [url for url in requests if urlsplit(url).scheme not in ("file", "data", "blob")] == []
    assert errors == []
