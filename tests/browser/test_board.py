"""What people see in MLflow: the leaderboard as a table, a row with its charts, the searches."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from asdbench.report.leaderboard import display_metrics
from tests.browser.conftest import TRIALS, open_table, served
from tests.commands import asdbench

pytestmark = pytest.mark.cluster  # slow: it runs systems, a server and a browser

# The metrics of the drawn columns from left to right: name, and pairs of row index and text. The order of the
# elements is another than that on the screen.
FIGURES = """() => [...document.querySelectorAll('.ag-header-cell[col-id^=metrics]')]
    .sort((a, b) => a.getBoundingClientRect().left - b.getBoundingClientRect().left)
    .map(header => [
        header.getAttribute('col-id').split('`')[1],
        [...document.querySelectorAll(`.ag-cell[col-id="${header.getAttribute('col-id')}"]`)]
            .map(cell => [Number(cell.closest('.ag-row').getAttribute('row-index')), cell.innerText.trim()])])
"""


def leaderboard(capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: Any) -> list[dict[str, Any]]:
    monkeypatch.setenv("ASDBENCH_HOME", str(home))
    capsys.readouterr()
    assert asdbench("leaderboard", "--data", "tiny", "--intervals", "--format", "json") == 0
    return list(json.loads(capsys.readouterr().out))


def names(page: Any) -> list[str]:
    """Return the names of the rows of the table, from top to bottom."""
    cells = page.locator(".ag-row [col-id='attributes.`Run Name`']").all()
    found = {
        int(cell.locator("xpath=ancestor::*[contains(@class,'ag-row')][1]").get_attribute("row-index")): cell
        for cell in cells
    }
    return [found[index].inner_text().strip().split("\n")[-1] for index in sorted(found)]


def figures(page: Any) -> list[dict[str, float]]:
    """Return the metrics that the table shows, for each row; those beyond the edge are not drawn."""
    columns = dict(page.evaluate(FIGURES))
    n_rows = max(index for cells in columns.values() for index, _ in cells) + 1
    rows: list[dict[str, float]] = [{} for _ in range(n_rows)]
    for name, cells in columns.items():
        for index, text in cells:
            if text != "-":
                rows[index][name] = float(text)
    return rows


def test_the_table_is_the_leaderboard(
    page: Any,
    pages: dict[str, str],
    board_home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = leaderboard(capsys, board_home, monkeypatch)
    assert len(expected) == 2
    open_table(page, pages["tiny"])
    assert [name.split()[0] for name in names(page)] == [row["system"] for row in expected]
    shown = figures(page)
    columns = ["official_score", "official_score_std", "interval_low", "interval_high"]
    columns += ["auc_source", "auc_target", "pauc", "seeds"]
    assert list(shown[0])[: len(columns)] == columns
    for row, metrics in zip(expected, shown, strict=True):
        wanted = display_metrics(row)
        assert {name: metrics[name] for name in columns} == {name: wanted[name] for name in columns}
    assert page.errors == []


def test_the_charts_are_of_the_official_score(page: Any, pages: dict[str, str]) -> None:
    page.goto(pages["tiny"] + "&compareRunsMode=CHART")
    page.get_by_text("Official score", exact=False).first.wait_for()
    page.wait_for_selector(".js-plotly-plot .bars")
    assert page.locator(".js-plotly-plot").count() == 1
    assert page.errors == []


def test_the_page_of_a_seed_shows_its_curves(page: Any, pages: dict[str, str], board_home: Path) -> None:
    client = MlflowClient(f"sqlite:///{board_home}/mlflow.db")
    experiment = pages["tiny"].partition("/experiments/")[2].partition("/")[0]
    seed = client.search_runs([experiment], "metrics.seed_score > 0", max_results=1)[0].info.run_id
    page.goto(pages["tiny"].partition("?")[0] + f"/{seed}/model-metrics")
    page.get_by_text("curves/fan", exact=False).first.wait_for()
    page.wait_for_selector(".js-plotly-plot .scatterlayer .trace", state="attached")
    assert page.errors == []


def test_the_page_of_a_row_shows_its_plots_and_its_scores(
    page: Any, pages: dict[str, str], board_home: Path
) -> None:
    client = MlflowClient(f"sqlite:///{board_home}/mlflow.db")
    experiment = pages["tiny"].partition("/experiments/")[2].partition("/")[0]
    row = client.search_runs([experiment], "metrics.official_score > 0", max_results=1)[0].info.run_id
    run_page = pages["tiny"].partition("?")[0] + f"/{row}/artifacts"
    page.goto(run_page + "/plots/roc.png")
    picture = page.locator("img[src^='blob:'], .image-container img, .mlflow-ui-container img").first
    picture.wait_for()
    page.goto(run_page + "/scores.json")
    page.get_by_text("machine_type", exact=True).first.wait_for()
    assert page.errors == []


def test_searches_are_listed_with_the_curve_of_the_best_score(page: Any, pages: dict[str, str]) -> None:
    open_table(page, pages["tiny/searches"])
    assert names(page) == [f"baseline-mse: {TRIALS} trials"]
    assert figures(page)[0] | {"best_score": 70, "default_score": 60} == figures(page)[0]
    page.goto(pages["tiny/searches"] + "&compareRunsMode=CHART")
    page.wait_for_selector(".js-plotly-plot .scatterlayer .trace", state="attached")
    assert page.errors == []


def test_trials_have_a_view_of_their_own(page: Any, pages: dict[str, str]) -> None:
    open_table(page, pages["tiny/searches"].replace("ShareKey=searches", "ShareKey=trials"))
    assert names(page) == ["trial 2 hidden=16", "trial 1 hidden=8", "trial 0"]


@pytest.mark.skipif("ASDBENCH_PICTURE" not in os.environ, reason="ASDBENCH_PICTURE names no file")
def test_the_picture_of_the_readme_is_taken(page: Any, board_home: Path) -> None:
    """``ASDBENCH_PICTURE_HOME`` names a data home with the results to show, such as that of make bench."""
    path = Path(os.environ["ASDBENCH_PICTURE"])
    page.set_viewport_size({"width": 1500, "height": 640})
    with served(Path(os.environ.get("ASDBENCH_PICTURE_HOME", board_home))) as pages:
        open_table(page, next(address for name, address in pages.items() if "/" not in name))
        page.wait_for_timeout(1000)  # until the panel at the side has closed
        path.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=path)
    assert path.stat().st_size > 10_000
