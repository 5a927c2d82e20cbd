"""MLflow's database: its tables are made once, and a transaction is whole."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asdbench.io.workspace import Workspace
from asdbench.tracking import database
from asdbench.tracking.address import Address
from asdbench.tracking.database import alone_with_tables, is_conflict, one_transaction
from asdbench.tracking.mlflow_runs import Store


@pytest.mark.parametrize("uri", ["sqlite:///{home}/mlflow.db", "postgresql://me:hush@host/db"])
def test_one_at_a_time_makes_the_tables(tmp_path: Path, uri: str) -> None:
    workspace, inside, most = Workspace.from_home(tmp_path / "new"), [], []

    def connect(number: int) -> None:
        with alone_with_tables(uri.format(home=workspace.home), workspace):
            inside.append(number)
            time.sleep(0.05)
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(connect, range(4)))
    assert most == [1] * 4


def test_an_interruption_while_the_tables_are_made_leaves_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db import utils

    def interrupted(engine: object) -> None:
        raise KeyboardInterrupt

    workspace = Workspace.from_home(tmp_path / "new")
    address = Address.from_workspace(workspace)
    make: Any = database._make_database  # a copy's, in tests
    monkeypatch.setattr(database, "_make_database", make.__wrapped__)
    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", interrupted)  # some tables exist by then
        with pytest.raises(KeyboardInterrupt):
            Store(address, workspace)
    assert [path.name for path in workspace.home.iterdir()] == ["mlflow.db.lock"]
    assert Store(address, workspace).recorded_experiments() == {}


def test_a_server_is_not_waited_for(tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path / "new")
    with alone_with_tables("http://host", workspace), alone_with_tables("http://host", workspace):
        assert not workspace.home.exists()


def test_a_store_waits_until_the_tables_are_made(tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path / "new")
    lock = alone_with_tables(f"sqlite:///{workspace.home.resolve() / 'mlflow.db'}", workspace)
    with ThreadPoolExecutor(1) as pool:
        with lock:
            made = pool.submit(Store, Address.from_workspace(workspace), workspace)
            with pytest.raises(TimeoutError):
                made.result(timeout=1.0)
        made.result(timeout=120)


def client(home: Path) -> Any:
    workspace = Workspace.from_home(home)
    return Store(Address.from_workspace(workspace), workspace)._client


def commits_of(store: Any) -> list[float]:
    """Return a list that grows with every commit to the database."""
    from sqlalchemy import event

    commits: list[float] = []
    event.listen(store.engine, "commit", lambda connection: commits.append(time.monotonic()))
    return commits


def test_many_calls_are_one_commit(tmp_path: Path) -> None:
    of = client(tmp_path)
    commits = commits_of(of._tracking_client.store)
    with one_transaction(of):
        experiment = of.create_experiment("it")
        runs = [of.create_run(experiment).info.run_id for _ in range(3)]
        for run in runs:
            of.log_metric(run, "score", 0.5)
        assert len(of.search_runs([experiment])) == 3  # it reads what it has written
        others = ThreadPoolExecutor(1).submit(of.search_experiments).result()
        assert [other.name for other in others] == ["Default"]  # another thread does not
    assert len(commits) <= 2  # the other thread's reading is the second
    assert {run.info.run_id for run in of.search_runs([experiment])} == set(runs)


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    of = client(tmp_path)
    with pytest.raises(MlflowException), one_transaction(of):  # noqa: PT012 - both calls are needed
        of.create_experiment("it")
        of.create_experiment("it")
    assert of.get_experiment_by_name("it") is None
    of.create_experiment("it")
    assert of.get_experiment_by_name("it") is not None


def test_a_conflict_that_mlflow_resolves_is_told_from_a_database_that_is_away() -> None:
    from sqlalchemy.exc import IntegrityError, OperationalError

    conflict, away = (kind("statement", {}, ValueError()) for kind in (IntegrityError, OperationalError))
    assert [is_conflict(error) for error in (conflict, away, OSError())] == [True, False, False]
