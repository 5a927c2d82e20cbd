"""What brings MLflow up to date, and what a user reads about its pages."""

import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asdbench.driver import board_server
from asdbench.driver.board_server import bring_up_to_date, show_board
from asdbench.driver.judging import judge
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InfrastructureError
from asdbench.io.workspace import Workspace
from asdbench.tracking import server
from asdbench.tracking.address import Address


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages that a desktop's browser has opened, and no server."""
    pages: list[str] = []

    @contextmanager
    def no_server(*_: Any, **__: Any) -> Iterator[str]:
        yield "http://127.0.0.1:5000"

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serving", no_server)
    monkeypatch.setattr(server, "wait_until_ready", lambda *_: None)
    monkeypatch.setattr(board_server, "_wait", ctrl_c)
    monkeypatch.setattr(webbrowser, "open", pages.append)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setenv("DISPLAY", ":0")
    return pages


def test_results_reach_mlflow_once_and_a_desktop_opens_their_page(
    scored_jobs: list[ResolvedJob], store: JobStore, output: Any, opened: list[str]
) -> None:
    judge(scored_jobs, store)
    workspace = scored_jobs[0].data.workspace
    address = Address.from_workspace(workspace, f"sqlite:///{workspace.home}/other.db")
    show_board(workspace, address, host="127.0.0.1", port=None, console=output)
    *_, page, ctrl_c, end = output.lines
    assert opened == [page.removeprefix("tiny: ")]
    assert "viewStateShareKey=leaderboard" in opened[0]
    assert [ctrl_c, end] == ["Ctrl-C ends it", "MLflow's server has ended"]
    delivered, left = bring_up_to_date(workspace, address)
    assert (delivered, left.entries) == (0, 0)


def test_without_a_desktop_the_page_is_printed_only(
    tmp_path: Path, output: Any, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "yes")
    workspace = Workspace.from_home(tmp_path)
    show_board(workspace, Address.from_workspace(workspace), host="127.0.0.1", port=None, console=output)
    assert output.lines[0].startswith("note: no results are recorded yet; 'asdbench run")
    assert output.lines[1] == "MLflow: http://127.0.0.1:5000"
    assert opened == []


def test_a_store_that_is_away_is_named_without_its_password(
    scored_jobs: list[ResolvedJob], store: JobStore, output: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    judge(scored_jobs, store)
    workspace = scored_jobs[0].data.workspace
    address = Address("http://me:hush@127.0.0.1:9")
    with pytest.raises(InfrastructureError, match="cannot be brought up to date because") as raised:
        bring_up_to_date(workspace, address)
    assert "hush" not in str(raised.value)
