"""Rows of a leaderboard with results, for the tests of what records them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec

from asdbench.engine.result_record import ResultRecord
from asdbench.engine.task_records import CurvePoint
from asdbench.io.workspace import Workspace
from asdbench.metrics import OFFICIAL
from asdbench.tracking.address import Address
from asdbench.tracking.mlflow_runs import Store
from asdbench.tracking.records import DatasetRecord, ModelEntry, RowEntry
from asdbench.tracking.rows import BoardRow, SeedResults

DATASET = DatasetRecord("demo", "f1f2", "/recordings", {"path": "string"}, {"clips": 300})

HELD_OUT = {"false_alarms": 2, "normals": 20, "units": 20, "units_are": "clips", "is_fresh": True}


def result(auc: float = 0.6, sections: int = 1, *, seed: int = 0, finished: str = "12") -> ResultRecord:
    """Return the result of a machine type, finished at that second."""
    metrics = {"auc_source": auc, "auc_target": 0.5, "pauc": 0.55}
    section = {
        "official": metrics,
        "in_domain": {},
        "half_width": dict.fromkeys(metrics, 0.04),
        "decisions": {"empirical": {"f1_source": 0.5, "f1_target": 0.4}},
        "clips": 200,
    }
    record = {
        "system": "baseline-mse",
        "settings": {},
        "changed_settings": {},
        "data": "demo",
        "machine_type": "fan",
        "seed": seed,
        "pseudo_anomaly_data": None,
        "subset": "dev",
        "tuned": None,
        "keys": {"trainings": ["t"], "scoring": "s"},
        "fingerprint": "f1f2",
        "transductive": False,
        "hold_out_clips": 20,
        "macs_per_clip": 1000,
        "code": "c0de",
        "rule": dataclasses.asdict(OFFICIAL),
        "thresholds": {"empirical": {"threshold": 1.5, "held_out": {"source": HELD_OUT}, "needed": 9}},
        "sections": {str(number): section for number in range(sections)},
        "parameters": 1000,
        "training_seconds": 10.0,
        "training_steps": 50,
        "scoring_seconds": 2.0,
        "clips_per_second": 100.0,
        "finished": f"2026-01-01T00:00:{finished}+00:00",
    }
    return msgspec.convert(record, ResultRecord)


def seed_results(
    seed: int = 0,
    types: Sequence[str] = ("fan", "valve"),
    *,
    sections: int = 1,
    finished: str = "12",
    epochs: int = 3,
) -> SeedResults:
    """Return the results of a row with one seed."""
    curve = [CurvePoint("reconstruction", e, {"total": 1 / e, "l1": 2 / e}) for e in range(1, epochs + 1)]
    records = {of: result(0.6, sections, seed=seed, finished=finished) for of in types}
    return SeedResults(seed, 0.61234, records, dict.fromkeys(types, curve))


def board_row(*seeds: SeedResults, key: str = "k", as_of_ns: int = 10**18, **changed: Any) -> BoardRow:
    """Return a row with some seeds, the seed 0 by default."""
    of_seeds = seeds or (seed_results(),)
    row = BoardRow(
        store="store",
        experiment="demo",
        key=key,
        results=" ".join(f"{seed.seed} {seed.results}" for seed in of_seeds),
        name=f"baseline-mse {key}",
        system="baseline-mse",
        settings={"epochs": 30, "bf16": False},
        metrics={"official_score": 61.23, "seeds": len(of_seeds)},
        tags={"asdbench.preset": "fast", "asdbench.tuned": "no"},
        seeds=of_seeds,
        dataset=DATASET,
        as_of_ns=as_of_ns,
    )
    return dataclasses.replace(row, **changed)


def row_entry(*seeds: SeedResults, **changed: Any) -> RowEntry:
    """Return the entry of a row."""
    return board_row(*seeds, **changed).entry({})


def model_entry(system: str = "baseline-mse") -> ModelEntry:
    """Return the entry of a model."""
    return ModelEntry(
        experiment="demo",
        store="store",
        key="k",
        results="r",
        weights="w",
        as_of_ns=10**18,
        leads=True,
        system=system,
        settings={},
        data="demo",
        data_digest="f1f2",
        machine_types=["fan"],
        seed=0,
        pseudo_anomaly_data=None,
        metrics={"official_score": 61.23},
    )


def new_store() -> Store:
    """Return the store of the data home, or of the environment."""
    workspace = Workspace.from_environment()
    return Store(Address.from_workspace(workspace), workspace)


def client() -> Any:
    """Return MLflow's client of that store."""
    from mlflow import MlflowClient

    return MlflowClient(Address.from_workspace(Workspace.from_environment()).uri)


def recorded(experiment: str = "demo") -> tuple[list[Any], list[Any]]:
    """Return outer and nested runs, by name."""
    found = client().get_experiment_by_name(f"asdbench/{experiment}")
    runs = client().search_runs([found.experiment_id]) if found else []
    runs = sorted(runs, key=lambda run: run.info.run_name)
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    return [run for run in runs if run not in nested], nested
