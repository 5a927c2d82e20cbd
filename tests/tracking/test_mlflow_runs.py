"""Rows of leaderboards in a real MLflow store: written, updated in place, and removed."""

import dataclasses
import json
import math
import subprocess
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asdbench.tracking import mlflow_runs
from asdbench.tracking.mlflow_runs import NotWritten, source_tags
from asdbench.tracking.records import RowEntry
from asdbench.tracking.rows import board_entry
from asdbench.tracking.run_writer import RunWriter
from tests.tracking.boards import client, new_store, recorded, row_entry, seed_results

LATER = 2 * 10**18


def write(*entries: Any) -> None:
    """Write entries one after the other."""
    store = new_store()
    for entry in entries:
        store.write([entry])


def board(*keys: str, store: str = "store", as_of_ns: int = LATER) -> Any:
    """Return the entry of a board with these rows."""
    metrics = ("auc_source", "auc_target", "pauc")
    return board_entry(store, "demo", keys, as_of_ns=as_of_ns, metrics=metrics, note="# Leaderboard")


@pytest.fixture
def no_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is stored at once, as on a tracking server."""
    monkeypatch.setattr(mlflow_runs, "one_transaction", lambda client: nullcontext())


def test_a_row_is_a_run_and_its_seeds_are_nested_with_their_curves() -> None:
    write(row_entry(seed_results(0), seed_results(1)))
    [row], seeds = recorded()
    assert (row.info.run_name, row.info.status) == ("baseline-mse k", "FINISHED")
    assert row.data.metrics == {"official_score": 61.23, "seeds": 2}
    assert row.data.params["epochs"] == "30"
    [given] = row.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("demo", "f1f2")
    assert json.loads(given.dataset.source) == {"uri": "/recordings"}
    [column] = json.loads(given.dataset.schema)["mlflow_colspec"]
    assert (column["name"], column["type"]) == ("path", "string")
    assert json.loads(given.dataset.profile) == {"clips": 300}
    assert row.info.end_time - row.info.start_time == 12_000
    assert [seed.info.run_name for seed in seeds] == ["seed 0", "seed 1"]
    assert {seed.data.tags["mlflow.parentRunId"] for seed in seeds} == {row.info.run_id}
    assert seeds[0].data.metrics["seed_score"] == 61.23
    history = client().get_metric_history(seeds[0].info.run_id, "curves/fan/reconstruction total")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_nothing_ranks_a_seed_among_rows() -> None:
    write(row_entry(seed_results(0), seed_results(1)))
    experiment = client().get_experiment_by_name("asdbench/demo").experiment_id
    ranked = client().search_runs([experiment], "metrics.official_score > 0")
    assert [run.info.run_name for run in ranked] == ["baseline-mse k"]


def test_a_row_is_updated_in_place_when_a_seed_is_added() -> None:
    write(row_entry(seed_results(0)))
    [before], [seed] = recorded()
    metrics = {"official_score": 55.0, "official_score_std": 1.5, "seeds": 2}
    write(row_entry(seed_results(0), seed_results(1), metrics=metrics, as_of_ns=LATER, name="new name"))
    [after], seeds = recorded()
    assert after.info.run_id == before.info.run_id
    assert (after.info.run_name, after.info.status) == ("new name", "FINISHED")
    assert after.data.metrics == metrics
    assert seeds[0].info.run_id == seed.info.run_id
    assert len(seeds) == 2
    history = client().get_metric_history(after.info.run_id, "official_score")
    assert {point.step for point in history} == {0}  # one step is a bar, several are a curve


def test_a_row_that_is_stored_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write(row_entry())
    monkeypatch.setattr(RunWriter, "fill", lambda *_: pytest.fail("it was written again"))
    write(row_entry(as_of_ns=LATER))


def test_a_later_state_of_a_row_counts_whichever_is_written_last() -> None:
    """Two drivers add a seed each; the first to read the results is the last to write."""
    old = row_entry(seed_results(0), as_of_ns=1)
    new = row_entry(seed_results(0), seed_results(1), as_of_ns=2, metrics={"official_score": 70.0})
    write(new, old)
    [row], seeds = recorded()
    assert (row.data.metrics["official_score"], len(seeds)) == (70, 2)
    new_store().write([row_entry(seed_results(2), as_of_ns=4, name="last"), row_entry(as_of_ns=3)])
    [row], seeds = recorded()
    assert (row.info.run_name, [seed.info.run_name for seed in seeds]) == ("last", ["seed 2"])


def test_results_that_have_changed_replace_a_seed_and_one_that_is_gone_is_removed() -> None:
    write(row_entry(seed_results(0), seed_results(1), seed_results(2)))
    before = {seed.info.run_name: seed.info.run_id for seed in recorded()[1]}
    write(row_entry(seed_results(0), seed_results(1, finished="13"), as_of_ns=LATER))
    after = {seed.info.run_name: seed.info.run_id for seed in recorded()[1]}
    assert after.keys() == {"seed 0", "seed 1"}
    assert after["seed 0"] == before["seed 0"]
    assert after["seed 1"] != before["seed 1"]


def test_a_row_without_a_metric_that_it_had_is_a_new_run() -> None:
    write(row_entry())
    write(row_entry(seed_results(types=("fan",)), metrics={"seeds": 0}, as_of_ns=LATER))
    [row], [_] = recorded()
    assert row.data.metrics == {"seeds": 0}


def test_a_row_that_is_no_longer_on_the_leaderboard_is_removed_with_its_seeds() -> None:
    write(row_entry(key="a"), row_entry(key="b"), board("a"))
    rows, seeds = recorded()
    assert [row.info.run_name for row in rows] == ["baseline-mse a"]
    assert len(seeds) == 1
    write(row_entry(key="b", as_of_ns=LATER + 1), board("a", "b", as_of_ns=LATER + 1))
    assert len(recorded()[0]) == 2


def test_rows_of_other_stores_and_later_rows_stay() -> None:
    write(
        row_entry(key="a"), row_entry(key="b", store="other"), row_entry(key="c", as_of_ns=LATER + 1), board()
    )
    assert [row.info.run_name for row in recorded()[0]] == ["baseline-mse b", "baseline-mse c"]
    write(board("c", as_of_ns=LATER + 2), board(as_of_ns=LATER + 1))  # the second is older
    assert len(recorded()[0]) == 2


def test_a_board_arranges_its_experiment() -> None:
    write(board())
    tags = client().get_experiment_by_name("asdbench/demo").tags
    assert tags["mlflow.note.content"] == "# Leaderboard"
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "mlflow.sharedViewState.leaderboard" in tags


def test_the_rows_and_experiments_that_are_recorded_are_told() -> None:
    store = new_store()
    assert store.recorded_rows("demo", "store") == {}
    write(row_entry(key="a"), row_entry(key="b", store="other"))
    assert store.recorded_rows("demo", "store") == {"a": row_entry().row.tags["asdbench.results"]}
    assert store.recorded_experiments() == {
        "demo": client().get_experiment_by_name("asdbench/demo").experiment_id
    }


def test_rows_on_evaluation_clips_are_in_an_experiment_of_their_own(home: Path) -> None:
    write(row_entry(), row_entry(experiment="demo/eval", key="e", files={"scores.json": b"{}"}))
    [row], _ = recorded("demo/eval")
    assert [row.info.run_name for row in recorded()[0]] == ["baseline-mse k"]
    artifact = home / "mlartifacts" / "demo" / "eval" / row.info.run_id / "artifacts" / "scores.json"
    assert artifact.read_bytes() == b"{}"


def test_artifacts_are_replaced_with_the_row() -> None:
    write(row_entry(files={"plots/roc.png": b"old"}))
    write(row_entry(seed_results(1), files={"plots/roc.png": b"new"}, as_of_ns=LATER))
    [row], _ = recorded()
    path = client().download_artifacts(row.info.run_id, "plots/roc.png")
    assert Path(path).read_bytes() == b"new"


def test_nothing_of_an_interrupted_recording_is_in_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    write(row_entry(key="a"))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(row_entry(key="b"))
    assert len(recorded()[0]) == 1
    write(row_entry(key="b"))
    assert [run.info.status for run in recorded()[0]] == ["FINISHED"] * 2


def test_an_interrupted_recording_is_completed(
    monkeypatch: pytest.MonkeyPatch, no_transactions: None
) -> None:
    from mlflow import MlflowClient

    log_batch = MlflowClient.log_batch
    calls = []

    def interrupted(*arguments: Any, **keywords: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        log_batch(*arguments, **keywords)

    entry = row_entry(seed_results(0), seed_results(1))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(entry)
    [left], seeds = recorded()
    assert [left.info.status] + [seed.info.status for seed in seeds] == ["RUNNING", "FINISHED", "RUNNING"]
    assert new_store().recorded_rows("demo", "store") == {"k": ""}
    write(entry)
    [row], seeds = recorded()
    assert row.info.run_id == left.info.run_id
    assert [run.info.status for run in (row, *seeds)] == ["FINISHED"] * 3
    assert row.data.metrics["official_score"] == 61.23


def test_two_drivers_that_update_a_row_at_once_leave_one_row_with_all_seeds() -> None:
    entries = [row_entry(*map(seed_results, range(n + 1)), as_of_ns=10 + n) for n in range(4)]
    write(row_entry(seed_results(0), as_of_ns=1))
    stores = [new_store() for _ in entries]
    together = threading.Barrier(len(entries))
    failed = []

    def work(number: int) -> None:
        together.wait()
        for _ in range(20):  # as the recorder tries again
            try:
                stores[number].write([entries[number]])
                return
            except NotWritten as error:
                if not error.transient:
                    failed.append(error)
                    return
                time.sleep(0.1)
        failed.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(entries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    write(entries[-1])
    [row], seeds = recorded()
    assert row.data.tags["asdbench.as_of_ns"] == "13"
    assert {seed.data.tags["asdbench.seed"] for seed in seeds} == {"0", "1", "2", "3"}


def test_losses_that_are_not_finite_are_recorded() -> None:
    entry = row_entry()
    seed = msgspec.structs.replace(entry.seeds[0], metrics=[("loss", math.nan, 1)])
    write(RowEntry("demo", entry.row, [seed]))
    assert math.isnan(recorded()[1][0].data.metrics["loss"])


def test_a_metric_that_is_there_twice_is_recorded() -> None:
    entry = row_entry()
    twice = [("loss", math.nan, 1), ("loss", math.nan, 1), ("score", 0.5, 1)]
    write(RowEntry("demo", msgspec.structs.replace(entry.row, metrics=twice), []))
    [row], _ = recorded()
    assert (row.info.status, row.data.metrics["score"]) == ("FINISHED", 0.5)


def test_no_request_holds_more_than_mlflow_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    log_batch = SqlAlchemyStore.log_batch
    sizes = []

    def spy(store: Any, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        sizes.append((len(metrics), len(params), len(tags)))
        log_batch(store, run_id, metrics=metrics, params=params, tags=tags)

    monkeypatch.setattr(SqlAlchemyStore, "log_batch", spy)
    settings = {f"s{number}": number for number in range(150)}
    write(row_entry(seed_results(types=("fan",), epochs=1100), settings=settings))
    assert all(metrics <= 1000 and params <= 100 and sum((metrics, params, tags)) <= 1000
               for metrics, params, tags in sizes)  # fmt: skip
    [row], [seed] = recorded()
    assert len(row.data.params) == 152
    history = client().get_metric_history(seed.info.run_id, "curves/fan/reconstruction total")
    assert [point.step for point in history] == list(range(1, 1101))


def test_the_git_state_is_recorded_where_asdbench_runs_from_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "checkout" / "asdbench" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    monkeypatch.setattr(mlflow_runs.asdbench, "__file__", str(package))
    assert source_tags() == {}

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        command = ["git", "-C", str(package.parent), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    assert source_tags() == {}
    git("add", package.name)
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert source_tags() == {"mlflow.source.git.commit": commit, "asdbench.git_dirty": "false"}
    package.write_text("x = 1\n")
    assert source_tags()["asdbench.git_dirty"] == "true"


def test_an_unreachable_server_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(NotWritten, match=r"MLflow store http://\*\*\*@127\.0\.0\.1:9 .*refused") as raised:
        write(row_entry())
    assert "hush" not in str(raised.value)
    assert len(str(raised.value)) < 200
    assert (raised.value.transient, raised.value.of_store) == (True, True)


def test_a_broken_database_is_told_soon_and_does_not_pass(home: Path) -> None:
    (home / "mlflow.db").write_text("this is no database, " * 100)
    began = time.monotonic()
    with pytest.raises(NotWritten, match=r"mlflow\.db .*not a database") as raised:
        write(row_entry())
    assert time.monotonic() - began < 20
    assert (raised.value.transient, raised.value.of_store) == (False, True)


def test_a_deleted_experiment_is_told_with_the_cure() -> None:
    write(row_entry())
    experiment = client().get_experiment_by_name("asdbench/demo").experiment_id
    client().delete_experiment(experiment)
    cure = f"mlflow experiments restore --experiment-id {experiment}"
    with pytest.raises(NotWritten, match=cure) as raised:
        write(row_entry())
    assert (raised.value.transient, raised.value.of_store) == (False, False)


def test_the_score_of_a_row_can_be_missing() -> None:
    entry = row_entry(dataclasses.replace(seed_results(types=("fan",)), score=None), metrics={"seeds": 0})
    write(entry)
    [row], [seed] = recorded()
    assert "official_score" not in row.data.metrics
    assert "seed_score" not in seed.data.metrics
