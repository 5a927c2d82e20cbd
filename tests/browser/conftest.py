"""A data home with results, MLflow's server on it, and a browser that looks at its pages.

The tests need Playwright and Chromium (``apt-get install chromium``), and are skipped without them.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from asdbench.tracking.address import Address, runs_page
from asdbench.tracking.mlflow_runs import Store
from asdbench.tracking.recorder import Recorder
from asdbench.tracking.searches import SearchRecord, TrialRecord
from asdbench.tracking.server import serving, wait_until_ready
from tests.commands import asdbench

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
RUN = ("run", "baseline-mse", "baseline-maha", "--data", "tiny", "--local", "--set", "epochs=2", "hidden=8")
TRIALS = 3
ASSISTANT = "mlflow.assistant.chat_panel.close"  # the panel opens next to the table on localhost


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser; while it is open, nothing else in this process can run an event loop."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def board_home(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data home with two systems and two seeds, and a search of three trials, in its own MLflow store."""
    folder = tmp_path_factory.mktemp("board")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDBENCH_HOME", str(folder / "home"))
        for name in ("MLFLOW_TRACKING_URI", "ASDBENCH_STORAGE"):
            patch.delenv(name, raising=False)
        workspace = Workspace.from_environment()
        catalog.add(workspace, "tiny", write_tiny(folder / "recordings", test_clips_per_cell=4))
        assert asdbench(*RUN, "--seeds", "0", "1") == 0
        recorder = Recorder(workspace)
        search = SearchRecord("5ea7c4", "baseline-mse", "tiny", "dev", "dev", None, {}, (0,), TRIALS)
        for number in range(TRIALS):
            rungs = [(1, 0.5 + 0.05 * number), (2, 0.6 + 0.05 * number)]
            settings = {"hidden": 8 * number} if number else {}
            trial = TrialRecord(number, settings, "complete", rungs, {}, {}, 1e9 + number, 1e9 + number + 1)
            recorder.put_trial(search, trial)
        assert recorder.close(patience_s=120).entries == 0
        yield folder / "home"


@contextmanager
def served(home: Path) -> Iterator[dict[str, str]]:
    """Serve the MLflow store of a data home; yield the addresses of its pages, by experiment."""
    workspace = Workspace.from_home(home)
    address, log = Address.from_workspace(workspace), home / "logs" / "mlflow.log"
    with serving(address, log) as base:
        wait_until_ready(base, log)
        experiments = Store(address, workspace).recorded_experiments()
        yield {name: runs_page(base, experiment, name) for name, experiment in experiments.items()}


@pytest.fixture(scope="module")
def pages(board_home: Path) -> Iterator[dict[str, str]]:
    """The addresses of the pages of a server on that home, by experiment."""
    with served(board_home) as addresses:
        yield addresses


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A new page, wide enough for the table; errors that it logs are in ``page.errors``."""
    context = chromium.new_context(viewport={"width": 2200, "height": 900})
    opened = context.new_page()
    opened.errors = []
    opened.on("pageerror", lambda error: _note_error(opened, str(error)))
    opened.on("console", lambda message: _note_message(opened, message))
    opened.set_default_timeout(120_000)
    yield opened
    context.close()


def _note_error(page: Any, error: str) -> None:
    """Note an error, unless it is Chromium's remark that a layout took more than one frame."""
    if "ResizeObserver loop" not in error:
        page.errors.append(error)


def _note_message(page: Any, message: Any) -> None:
    """Note an error of the console but the one that MLflow's page makes itself: there are no users."""
    if message.type == "error" and "users/current" not in message.location.get("url", ""):
        _note_error(page, message.text)


def open_table(page: Any, address: str) -> None:
    """Open a page of runs, and wait for its table."""
    page.goto(address)
    page.wait_for_selector(".ag-row")
    page.get_by_text("matching run").first.wait_for()
    page.wait_for_timeout(500)  # until the view has put the columns in order
    close = page.locator(f'[data-component-id="{ASSISTANT}"]')
    if close.count():
        close.click()
