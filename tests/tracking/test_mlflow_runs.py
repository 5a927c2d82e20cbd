import dataclasses
import math
import shlex
import shutil
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from asdbench.engine.result_record import ResultRecord, SectionMetrics
from asdbench.engine.task_records import CurvePoint
from asdbench.io.workspace import Workspace
from asdbench.metrics import OFFICIAL, WITHOUT_DOMAINS, official_score
from asdbench.tracking import mlflow_runs
from asdbench.tracking.mlflow_runs import NotWritten, Store, runs_page, source_tags, tracking_uri, ui_command
from asdbench.tracking.runs import OutboxEntry, Run

TYPES = ("fan", "valve")


def record(runs: list[Run]) -> dict[str, str]:
    store = Store(Workspace.from_environment())
    for run in runs:
        store.write([run.entry(source_tags())])
    return store.experiments


def section(auc: float) -> dict[str, Any]:
    metrics = {"auc_source": auc, "auc_target": 0.5, "pauc": 0.55}
    return {
        "official": metrics,
        "in_domain": {"auc_source": 0.7, "auc_target": 0.6, "pauc_source": 0.5, "pauc_target": 0.4},
        "half_width": dict.fromkeys(metrics, 0.04),
        "decisions": {"empirical": {"f1_source": 0.5, "f1_target": 0.4}},
        "clips": 200,
    }


def result(auc: float, sections: int = 1) -> ResultRecord:
    record = {
        "system": "baseline-mse",
        "settings": {},
        "changed_settings": {},
        "data": "demo",
        "machine_type": "fan",
        "seed": 0,
        "pseudo_anomaly_data": None,
        "subset": "dev",
        "tuned": None,
        "keys": {"trainings": ["t"], "scoring": "s"},
        "fingerprint": "f1f2",
        "hold_out_clips": 20,
        "macs_per_clip": 1000,
        "code": "c0de",
        "rule": dataclasses.asdict(OFFICIAL),
        "thresholds": {"empirical": {"threshold": 1.5, "false_alarms": 2, "normals": 20}},
        "sections": {str(number): section(auc) for number in range(sections)},
        "parameters": 1000,
        "training_seconds": 10.0,
        "training_steps": 50,
        "scoring_seconds": 2.0,
        "clips_per_second": 100.0,
        "finished": "2026-01-01T00:00:12+00:00",
    }
    return msgspec.convert(record, ResultRecord)


def finished_run(
    seed: int = 0, types: tuple[str, ...] = TYPES, *, curve_epochs: int = 3, sections: int = 1, **changed: Any
) -> Run:
    system = "baseline-mse"
    table = pl.DataFrame({"clip_id": [1, 2], "use": ["hold_out", "test"], "score": [0.25, 0.5]})
    curve = [
        CurvePoint("reconstruction", e, {"total": 1 / e, "l1": 2 / e}) for e in range(1, curve_epochs + 1)
    ]
    return Run(
        system=system,
        settings={"epochs": 100, "bf16": False, "cap": None} | changed,
        changed_settings=changed,
        data="demo",
        fingerprint="f1f2",
        seed=seed,
        complete=True,
        records={of: result(0.6 + 0.1 * number, sections) for number, of in enumerate(types)},
        keys={of: f"{system}-{of}-{seed}-{changed}" for of in types},
        scores=dict.fromkeys(types, table),
        curves=dict.fromkeys(types, curve),
    )


def client() -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri(Workspace.from_environment()))


def recorded(data: str = "demo") -> tuple[list[Any], list[Any]]:
    """Return outer and nested runs, by name."""
    experiment = client().get_experiment_by_name(f"asdbench/{data}")
    found = sorted(client().search_runs([experiment.experiment_id]), key=lambda run: run.info.run_name)
    nested = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    return [run for run in found if run not in nested], nested


@pytest.fixture
def no_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call is stored at once, as on a tracking server."""
    monkeypatch.setattr(mlflow_runs, "one_transaction", lambda client: nullcontext())


def test_a_run_has_parameters_tags_metrics_and_times() -> None:
    run = finished_run(seed=3, epochs=30)
    record([run])
    [outer], _ = recorded()
    assert outer.info.run_name == "baseline-mse seed 3 epochs=30"
    assert outer.info.status == "FINISHED"
    assert outer.data.params == {
        "epochs": "30", "bf16": "false", "cap": "none", "system": "baseline-mse", "data": "demo", "seed": "3"
    }  # fmt: skip
    tags = outer.data.tags
    assert tags["asdbench.key"] == run.key
    assert tags["asdbench.data_fingerprint"] == "f1f2"
    assert tags["asdbench.machine_types"] == "fan, valve"
    assert tags["asdbench.version"]
    [given] = outer.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("demo", "f1f2")
    metrics = outer.data.metrics
    sections = [of.sections["0"].official for of in run.records.values()]
    assert metrics["official_score"] == pytest.approx(official_score(sections), abs=1e-12)
    assert metrics["arithmetic_mean"] == pytest.approx((0.6 + 0.7 + 2 * 0.5 + 2 * 0.55) / 6)
    assert metrics["harmonic_mean_auc_source"] == pytest.approx(2 / (1 / 0.6 + 1 / 0.7))
    assert (metrics["fan/auc_source"], metrics["valve/auc_source"]) == pytest.approx((0.6, 0.7))
    assert (metrics["training_seconds"], metrics["scoring_seconds"]) == (20.0, 4.0)
    assert (metrics["clips_per_second"], metrics["parameters"], metrics["training_steps"]) == (
        100.0,
        1000.0,
        100.0,
    )
    assert outer.info.end_time - outer.info.start_time == 12_000


def test_each_machine_type_is_a_nested_run_with_its_curve() -> None:
    record([finished_run()])
    [outer], nested = recorded()
    assert [run.info.run_name for run in nested] == [f"{of}, baseline-mse seed 0" for of in TYPES]
    fan = nested[0]
    assert fan.data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert fan.data.tags["asdbench.result"] == "baseline-mse-fan-0-{}"
    assert (fan.data.params["machine_type"], fan.data.params["seed"]) == ("fan", "0")
    metrics = fan.data.metrics
    assert (metrics["auc_source"], metrics["auc_source_half_width"]) == (0.6, 0.04)
    assert metrics["harmonic_mean"] == pytest.approx(official_score([section(0.6)["official"]]), abs=1e-12)
    assert "official_score" not in metrics
    assert (metrics["f1_target"], metrics["threshold"], metrics["in_domain/pauc_target"]) == (0.4, 1.5, 0.4)
    points = client().get_metric_history(fan.info.run_id, "loss/reconstruction/total")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert metrics["loss/reconstruction/l1"] == pytest.approx(2 / 3)


def test_several_sections_are_told_apart() -> None:
    record([finished_run(sections=2)])
    _, [fan, _] = recorded()
    assert fan.data.metrics["section_1/auc_source"] == 0.6
    assert fan.data.metrics["section_0/in_domain/auc_target"] == 0.6
    assert fan.data.metrics["auc_source"] == pytest.approx(0.6)


def test_runs_on_evaluation_clips_are_in_an_experiment_of_their_own(home: Path) -> None:
    run = dataclasses.replace(finished_run(), subset="eval")
    ids = record([finished_run(), run])
    assert set(ids) == {"demo", "demo/eval"}
    (outer,) = recorded("demo/eval")[0]
    assert outer.info.experiment_id == ids["demo/eval"] != ids["demo"]
    assert outer.data.tags["asdbench.subset"] == "eval"
    assert recorded()[0][0].data.tags["asdbench.subset"] == "dev"
    assert (home / "mlartifacts" / "demo" / "eval" / outer.info.run_id / "artifacts" / "scores").is_dir()


def test_a_run_is_counted_by_the_rule_of_its_results() -> None:
    run = finished_run()
    judged = SectionMetrics({"auc": 0.9, "pauc": 0.5}, {}, {"empirical": {}}, {}, 200)
    record(
        [
            dataclasses.replace(
                run,
                records={
                    of: msgspec.structs.replace(result(0.6), sections={"00": judged}, rule=WITHOUT_DOMAINS)
                    for of in TYPES
                },
            )
        ]
    )
    [outer], [fan, _] = recorded()
    assert outer.data.metrics["official_score"] == pytest.approx(0.7)
    assert outer.data.metrics["arithmetic_mean_auc"] == pytest.approx(0.9)
    assert fan.data.metrics["arithmetic_mean"] == pytest.approx(0.7)
    assert "harmonic_mean" not in fan.data.metrics


def test_score_tables_lie_beside_the_database(home: Path) -> None:
    record([finished_run()])
    [outer], _ = recorded()
    paths = [file.path for file in client().list_artifacts(outer.info.run_id, "scores")]
    assert paths == ["scores/fan.csv", "scores/valve.csv"]
    stored = home / "mlartifacts" / "demo" / outer.info.run_id / "artifacts" / "scores" / "fan.csv"
    assert stored.read_text() == "clip_id,use,score\n1,hold_out,0.25\n2,test,0.5\n"


def test_what_is_recorded_is_not_recorded_again() -> None:
    record([finished_run(0), finished_run(1)])
    before = {run.info.run_id for of in recorded() for run in of}
    record([finished_run(0), finished_run(1), finished_run(0, epochs=30)])
    outer, nested = recorded()
    assert before < {run.info.run_id for run in outer + nested}
    assert (len(outer), len(nested)) == (3, 6)


def test_a_run_is_known_by_system_settings_and_seed_and_its_results_by_their_keys() -> None:
    assert finished_run().key == finished_run(types=("valve", "fan")).key == finished_run(types=("fan",)).key
    assert finished_run().key != finished_run(1).key
    assert finished_run().results == finished_run(types=("valve", "fan")).results
    assert finished_run().results != finished_run(types=("fan",)).results


def test_a_run_with_more_machine_types_takes_the_place_of_a_partial_one() -> None:
    record([dataclasses.replace(finished_run(types=("fan",)), complete=False)])
    [partial], _ = recorded()
    assert "official_score" not in partial.data.metrics
    record([finished_run()])
    [whole], nested = recorded()
    assert "official_score" in whole.data.metrics
    assert len(nested) == 2
    assert whole.info.run_id != partial.info.run_id


def test_nothing_of_an_interrupted_recording_is_in_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    record([finished_run()])
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", interrupted)
        with pytest.raises(KeyboardInterrupt):
            record([finished_run(seed=1)])
    assert len(recorded()[0]) == 1
    record([finished_run(seed=1)])
    assert [run.info.status for run in recorded()[0]] == ["FINISHED"] * 2


def test_an_interrupted_recording_is_replaced(monkeypatch: pytest.MonkeyPatch, no_transactions: None) -> None:
    from mlflow import MlflowClient

    log_batch = MlflowClient.log_batch
    calls = []

    def interrupted(*arguments: Any, **keywords: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        log_batch(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            record([finished_run()])
    [left], nested = recorded()
    assert (left.info.status, len(nested)) == ("RUNNING", 2)
    record([finished_run()])
    [outer], nested = recorded()
    assert outer.info.run_id != left.info.run_id
    assert [run.info.status for run in (outer, *nested)] == ["FINISHED"] * 3
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {outer.info.run_id}


def test_of_a_run_with_several_entries_the_newest_is_written() -> None:
    partial = dataclasses.replace(finished_run(types=("fan",)), complete=False)
    Store(Workspace.from_environment()).write([run.entry({}) for run in (partial, finished_run())])
    [outer], nested = recorded()
    assert (outer.data.tags["asdbench.machine_types"], len(nested)) == ("fan, valve", 2)


def test_an_entry_is_the_same_after_a_detour_through_json() -> None:
    entry = finished_run(curve_epochs=1).entry({"mlflow.source.git.commit": "c0ffee"})
    again = OutboxEntry.from_json(entry.to_json())
    assert again.to_json() == entry.to_json()
    assert again.group == entry.group
    Store(Workspace.from_environment()).write([again])
    [outer], [fan, _] = recorded()
    assert outer.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert fan.data.metrics["loss/reconstruction/l1"] == 2


def test_losses_that_are_not_finite_are_recorded() -> None:
    run = finished_run(types=("fan",))
    curve = [CurvePoint("s", 1, {"total": float("nan")})]
    Store(Workspace.from_environment()).write(
        [OutboxEntry.from_json(dataclasses.replace(run, curves={"fan": curve}).entry({}).to_json())]
    )
    _, [fan] = recorded()
    assert math.isnan(fan.data.metrics["loss/s/total"])


def test_a_metric_that_is_there_twice_is_recorded() -> None:
    entry = finished_run().entry({})
    twice = [("loss", math.nan, 1), ("loss", math.nan, 1), ("score", 0.5, 1)]
    record = dataclasses.replace(entry.run, metrics=twice, nested=())
    Store(Workspace.from_environment()).write([dataclasses.replace(entry, run=record)])
    [outer], _ = recorded()
    assert (outer.info.status, outer.data.metrics["score"]) == ("FINISHED", 0.5)


def test_a_tuned_run_is_another_than_the_untuned_one_with_its_settings() -> None:
    tuned = {"search": "5ea7c4", "trials": 20, "protocol": "dev"}
    run = dataclasses.replace(finished_run(epochs=30), tuned=tuned)
    record([finished_run(epochs=30), run])
    outer, nested = recorded()
    assert [of.info.run_name for of in outer] == [
        "baseline-mse seed 0 epochs=30",
        "baseline-mse seed 0 epochs=30, dev-tuned, 20 trials",
    ]
    assert [of.data.tags["asdbench.tuned"] for of in outer] == ["no", "dev-tuned"]
    assert [of.data.params.get("trials") for of in outer] == [None, "20"]
    assert len(nested) == 4
    assert run.key != dataclasses.replace(run, tuned=tuned | {"search": "07e4"}).key


def test_a_name_that_is_too_long_ends_in_an_ellipsis_before_what_marks_it_tuned() -> None:
    changed = {f"setting_{number}": "x" * 20 for number in range(20)}
    run = dataclasses.replace(finished_run(**changed), tuned={"search": "s", "trials": 1, "protocol": "dev"})
    record([run])
    [outer], nested = recorded()
    assert outer.info.run_name.endswith("…, dev-tuned, 1 trial")
    assert {len(of.info.run_name) for of in (outer, *nested)} == {250}


def test_no_request_holds_more_than_mlflow_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    log_batch = SqlAlchemyStore.log_batch
    sizes = []

    def spy(store: Any, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        sizes.append((len(metrics), len(params), len(tags)))
        log_batch(store, run_id, metrics=metrics, params=params, tags=tags)

    monkeypatch.setattr(SqlAlchemyStore, "log_batch", spy)
    record([finished_run(types=("fan",), curve_epochs=1100, **{f"s{n}": n for n in range(150)})])
    assert all(metrics <= 1000 and params <= 100 and sum((metrics, params, tags)) <= 1000
               for metrics, params, tags in sizes)  # fmt: skip
    _, [fan] = recorded()
    assert len(fan.data.params) == 157
    history = client().get_metric_history(fan.info.run_id, "loss/reconstruction/total")
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
    record([finished_run(types=("fan",))])
    [outer], _ = recorded()
    assert outer.data.tags["mlflow.source.git.commit"] == commit


def test_the_uri_is_the_users_or_in_the_data_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking_uri(Workspace.from_environment()) == f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert tracking_uri(Workspace.from_environment()) == "http://tracking.example:5000"


def test_the_ui_command_opens_the_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(ui_command(Workspace.from_environment()))
    assert words[:2] == ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", "MLFLOW_DISABLE_TELEMETRY=true"]
    assert words[words.index("--backend-store-uri") + 1] == f"sqlite:///{home}/mlflow.db"
    assert words[words.index("--artifacts-destination") + 1] == f"{home}/mlartifacts"
    assert words[words.index("--host") + 1] == "127.0.0.1"
    program = words[2 : words.index("ui")]
    assert shutil.which(program[0])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///my runs.db")
    assert "sqlite:///my runs.db" in shlex.split(ui_command(Workspace.from_environment()))
    assert "--artifacts-destination" not in ui_command(Workspace.from_environment())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert ui_command(Workspace.from_environment()) == "python -m webbrowser http://tracking.example:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hush@db/runs")
    assert "hush" not in ui_command(Workspace.from_environment())
    assert '--backend-store-uri "$MLFLOW_TRACKING_URI"' in ui_command(Workspace.from_environment())


def test_an_unreachable_server_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hush@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(NotWritten, match=r"MLflow store http://\*\*\*@127\.0\.0\.1:9 .*refused") as raised:
        record([finished_run()])
    assert "hush" not in str(raised.value)
    assert len(str(raised.value)) < 200
    assert (raised.value.transient, raised.value.of_store) == (True, True)


def test_a_broken_database_is_told_soon_and_does_not_pass(home: Path) -> None:
    (home / "mlflow.db").write_text("this is no database, " * 100)
    began = time.monotonic()
    with pytest.raises(NotWritten, match=r"mlflow\.db .*not a database") as raised:
        record([finished_run()])
    assert time.monotonic() - began < 20
    assert (raised.value.transient, raised.value.of_store) == (False, True)


def test_a_deleted_experiment_is_told_with_the_cure() -> None:
    record([finished_run(types=("fan",))])
    experiment = client().get_experiment_by_name("asdbench/demo").experiment_id
    client().delete_experiment(experiment)
    with pytest.raises(
        NotWritten, match=f"mlflow experiments restore --experiment-id {experiment}"
    ) as raised:
        record([finished_run(types=("fan",))])
    assert (raised.value.transient, raised.value.of_store) == (False, False)


def test_the_page_of_runs_is_at_the_server_or_at_the_local_ui(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert runs_page(Workspace.from_environment(), "3").startswith(
        "http://127.0.0.1:5000/#/experiments/3/runs?"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@tracking.example/")
    page = runs_page(Workspace.from_environment(), "3")
    assert "/#/experiments/3/runs?" in page
    assert "secret" not in page
    assert "orderByKey=metrics.%60best_score%60" in runs_page(
        Workspace.from_environment(), "3", metric="best_score"
    )
