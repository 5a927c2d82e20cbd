"""How long MLflow's leaderboard of 10,000 runs takes until its first rows are on the screen.

    python benchmarks/bench_board.py [--rows 2000] [--seeds 4] [--times 3]

The runs are copies, in the database, of a row that the recorder has written. The time is from opening the
address that ``asdbench ui`` opens until the best score is visible, in a new headless Chromium each time (so
that nothing is cached), and once more in the same browser. It needs Playwright and Chromium.
"""

import argparse
import shutil
import sqlite3
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path

from bench_mlflow import TYPES, curve, result
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from asdbench.io.workspace import Workspace
from asdbench.tracking.address import Address, runs_page
from asdbench.tracking.mlflow_runs import Store
from asdbench.tracking.records import DatasetRecord
from asdbench.tracking.rows import BoardRow, SeedResults, board_entry
from asdbench.tracking.server import serving, wait_until_ready

BEST = 87.65
_COPIED = ("latest_metrics", "params", "tags")  # tables with a row for each name of a run


def record_row(workspace: Workspace, seeds: int) -> None:
    """Record a leaderboard of one row."""
    results = {machine_type: result(machine_type) for machine_type in TYPES}
    curves = dict.fromkeys(TYPES, curve(20))
    names = ("auc_source", "auc_target", "interval_high", "interval_low", "official_score", "pauc", "seeds")
    row = BoardRow(
        store="store",
        experiment="bench",
        key="row",
        results="results",
        name="baseline-mse",
        system="baseline-mse",
        settings={"epochs": 100, "batch_size": 256, "hidden": 128},
        metrics=dict.fromkeys(names, 60.0),
        tags={"asdbench.preset": "none", "asdbench.tuned": "no"},
        seeds=[SeedResults(seed, 0.6, results, curves) for seed in range(seeds)],
        dataset=DatasetRecord("bench", "f1f2", "/recordings", {"path": "string"}, {"clips": 1400}),
        as_of_ns=time.time_ns(),
    )
    store = Store(Address.from_workspace(workspace), workspace)
    metrics = ("auc_source", "auc_target", "pauc")
    store.write([row.entry({})])
    store.write([board_entry("store", "bench", ["row"], as_of_ns=1, metrics=metrics, note="2,000 rows")])


def copy_row(database: Path, rows: int) -> int:
    """Copy the only row with its seeds until there are so many; return the number of runs."""
    with closing(sqlite3.connect(database)) as connection, connection:
        runs = connection.execute("select * from runs").fetchall()
        columns = [column[1] for column in connection.execute("pragma table_info(runs)")]
        place = columns.index("run_uuid")
        for number in range(1, rows):
            new = {run[place]: uuid.uuid4().hex for run in runs}
            for run in runs:
                copied = [*run[:place], new[run[place]], *run[place + 1 :]]
                connection.execute(f"insert into runs values ({','.join('?' * len(copied))})", copied)
            for table in _COPIED:
                _copy_names(connection, table, new)
            score = 40.0 if number < rows - 1 else BEST
            parent = new[_parent(connection, new)]
            connection.execute(
                "update latest_metrics set value = ? where run_uuid = ? and key = 'official_score'",
                (score, parent),
            )
        return int(connection.execute("select count(*) from runs").fetchone()[0])


def _copy_names(connection: sqlite3.Connection, table: str, new: dict[str, str]) -> None:
    columns = [column[1] for column in connection.execute(f"pragma table_info({table})")]
    place = columns.index("run_uuid")
    for run, copy in new.items():
        for values in connection.execute(f"select * from {table} where run_uuid = ?", (run,)).fetchall():
            copied = [new.get(value, value) for value in values]  # the parent's id is the value of a tag
            copied[place] = copy
            connection.execute(f"insert into {table} values ({','.join('?' * len(copied))})", copied)


def _parent(connection: sqlite3.Connection, new: dict[str, str]) -> str:
    nested = {
        run for (run,) in connection.execute("select run_uuid from tags where key = 'mlflow.parentRunId'")
    }
    return next(run for run in new if run not in nested)


def seconds_to_first_rows(context: BrowserContext, address: str) -> float:
    """Open a page and return the seconds until a row of the table shows its score."""
    page = context.new_page()
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator(".ag-row", has_text=str(BEST)).first.wait_for(timeout=120_000)
    seconds = time.perf_counter() - start
    page.close()
    return seconds


def measure(browser: Browser, address: str, times: int) -> None:
    """Print the times of new browsers and of browsers that were here before."""
    first, again = [], []
    for _ in range(times):
        context = browser.new_context(viewport={"width": 1600, "height": 900})
        first.append(seconds_to_first_rows(context, address))
        again.append(seconds_to_first_rows(context, address))
        context.close()
    for what, seconds in (("new browser", first), ("the same browser again", again)):
        print(f"{what}: {', '.join(f'{value:.1f}' for value in seconds)} s to the first rows", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        workspace = Workspace.from_home(home)
        record_row(workspace, options.seeds)
        n_runs = copy_row(Path(home) / "mlflow.db", options.rows)
        address, log = Address.from_workspace(workspace), Path(home) / "logs" / "mlflow.log"
        experiments = Store(address, workspace).recorded_experiments()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with serving(address, log) as base:
            wait_until_ready(base, log)
            print(f"{n_runs:,} runs", flush=True)
            measure(browser, runs_page(base, experiments["bench"], "bench"), options.times)
        browser.close()


if __name__ == "__main__":
    main()
