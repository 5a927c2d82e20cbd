"""How many results and trials a second MLflow takes, in the SQLite file of a new data home.

A result is a machine type of a seed, with its metrics and training curve. A seed here has seven, and a trial
has a score at each of seven rungs. The time is that of `asdbench.tracking.recorder.deliver`
for a full outbox, so that nothing is hidden by the background.

    python benchmarks/bench_mlflow.py [--rows 20] [--trials 100] [--epochs 20] [--seconds 20]
"""

import argparse
import tempfile
import time

import msgspec

from asdbench.engine.result_record import ResultRecord
from asdbench.engine.task_records import CurvePoint
from asdbench.io.workspace import Workspace
from asdbench.tracking.outbox import Outbox
from asdbench.tracking.recorder import Recorder, deliver
from asdbench.tracking.records import DatasetRecord
from asdbench.tracking.rows import BoardRow, SeedResults
from asdbench.tracking.searches import SearchRecord, TrialRecord, trial_entry

TYPES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")


def result(machine_type: str) -> ResultRecord:
    """Return a result record as `asdbench.engine.evaluation.evaluate` stores it."""
    official = {"auc_source": 0.7, "auc_target": 0.6, "pauc": 0.55}
    decisions = {f"{name}_{of}": 0.5 for name in ("precision", "recall", "f1") for of in ("source", "target")}
    methods = ("empirical", "gamma", "tail")
    section = {
        "official": official,
        "in_domain": official,
        "decisions": dict.fromkeys(methods, decisions),
        "half_width": official,
        "clips": 200,
    }
    normals = {"false_alarms": 2, "normals": 20, "units": 20, "units_are": "clips", "is_fresh": True}
    threshold = {"threshold": 1.5, "held_out": {"source": normals}, "needed": 9}
    record = {
        "system": "baseline-mse",
        "settings": {"epochs": 100},
        "changed_settings": {},
        "data": "bench",
        "machine_type": machine_type,
        "seed": 0,
        "pseudo_anomaly_data": None,
        "subset": "dev",
        "tuned": None,
        "rule": {},
        "keys": {"trainings": ["a"], "scoring": "b"},
        "fingerprint": "f",
        "code": "c",
        "thresholds": dict.fromkeys(methods, threshold),
        "sections": {"00": section},
        "transductive": False,
        "hold_out_clips": 99,
        "parameters": 300_000,
        "macs_per_clip": 10_000_000,
        "training_seconds": 60.0,
        "training_steps": 3000,
        "scoring_seconds": 4.0,
        "clips_per_second": 100.0,
        "finished": "2026-01-01T00:00:12+00:00",
    }
    return msgspec.convert(record, ResultRecord)


def curve(epochs: int) -> list[CurvePoint]:
    """Return a training curve of one stage."""
    return [CurvePoint("reconstruction", e, {"total": 1 / e, "l1": 2 / e}) for e in range(1, epochs + 1)]


def fill_with_rows(outbox: Outbox, rows: int, epochs: int) -> None:
    """Put rows of one seed with seven machine types into an outbox."""
    results = {machine_type: result(machine_type) for machine_type in TYPES}
    seed = SeedResults(0, 0.6, results, dict.fromkeys(TYPES, curve(epochs)))
    for number in range(rows):
        row = BoardRow(
            store="store",
            experiment="bench",
            key=f"row {number}",
            results="results",
            name=f"baseline-mse {number}",
            system="baseline-mse",
            settings={"epochs": 100, "batch_size": 256, "hidden": 128},
            metrics=dict.fromkeys(("official_score", "interval_low", "interval_high", "auc_source"), 60.0),
            tags={"asdbench.preset": "none", "asdbench.tuned": "no"},
            seeds=[seed],
            dataset=DatasetRecord("bench", "f1f2", "/recordings", {"path": "string"}, {"clips": 1400}),
            as_of_ns=time.time_ns(),
        )
        outbox.put(row.entry({}))


def fill_with_trials(outbox: Outbox, numbers: range, epochs: int) -> None:
    """Put trials of one search into an outbox."""
    for number in numbers:
        outbox.put(trial_entry(*search_and_trial(number, numbers.stop, epochs), {}))


def search_and_trial(number: int, trials: int, epochs: int) -> tuple[SearchRecord, TrialRecord]:
    """Return a search of so many trials, and one of them."""
    search = SearchRecord("key", "baseline-mse", "bench", "dev", "dev", None, {}, (0,), trials)
    trial = TrialRecord(
        number=number,
        settings={"hidden": number},
        state="complete",
        rungs=[(rung, 0.6) for rung in range(1, 8)],
        metrics={machine_type: {"auc_source": 0.7, "auc_target": 0.6} for machine_type in TYPES},
        curves=dict.fromkeys(TYPES, curve(epochs)),
        began=1.8e9 + number,
        ended=1.8e9 + number + 60,
    )
    return search, trial


def timed(workspace: Workspace, count: int, what: str) -> None:
    """Deliver what is in the outbox and print the rate."""
    start, start_cpu = time.perf_counter(), time.process_time()
    delivered, rest = deliver(workspace)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    assert rest.entries == 0, rest.why
    print(
        f"{what}: {count / seconds:.1f} a second "
        f"({delivered} entries in {seconds:.1f} s, {cpu_s:.1f} s of CPU)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace.from_home(home)
        outbox = Outbox(workspace.home / "outbox")
        fill_with_trials(outbox, range(1), options.epochs)
        timed(workspace, 1, "the first trial, with the new database")
        fill_with_rows(outbox, options.rows, options.epochs)
        timed(workspace, options.rows * len(TYPES), f"results of {options.rows} rows at once")
        fill_with_trials(outbox, range(1, options.trials), options.epochs)
        timed(workspace, options.trials, f"{options.trials} trials at once")
        stream(workspace, options)


def stream(workspace: Workspace, options: argparse.Namespace) -> None:
    """Put ten results a second, and print how long after the last one all are recorded."""
    recorder = Recorder(workspace)
    start = time.perf_counter()
    for second in range(options.seconds):
        for tenth in range(10):
            number = options.trials + 10 * second + tenth
            recorder.put_trial(*search_and_trial(number, number + 1, options.epochs))
            time.sleep(max(0.0, start + second + tenth / 10 - time.perf_counter()))
    last = time.perf_counter()
    rest = recorder.close(patience_s=600)
    assert rest.entries == 0, rest.why
    lag = time.perf_counter() - last
    print(f"ten trials a second for {options.seconds} s: all recorded {lag:.1f} s after the last")


if __name__ == "__main__":
    main()
