"""Thresholds come from both domains, count recordings where these are known, and are not made of too few."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import polars as pl
import pytest

from asdbench.data.sets.clips import CLIP_SCHEMA
from asdbench.engine.decision_thresholds import (
    decision_threshold,
    decision_thresholds,
    uncalibrated_threshold,
)
from asdbench.engine.jobs import ResolvedJob
from asdbench.metrics import THRESHOLDS, empirical_threshold

COLUMNS = ("clip_id", "machine_type", "split", "domain", "attributes", "recording", "spectrum")


def job_and_scores(
    source: list[str | None], target: list[str | None], *, hold_out: Any = "cross-fit", shift: float = 3.0
) -> tuple[ResolvedJob, pl.DataFrame]:
    """Return a job whose training clips are of these recordings, with scores of all of them."""
    count = len(source) + len(target)
    domains = ["source"] * len(source) + ["target"] * len(target)
    clips = pl.DataFrame(
        {
            "clip_id": list(range(count)),
            "machine_type": ["fan"] * count,
            "split": ["train"] * count,
            "domain": domains,
            "attributes": [[]] * count,
            "recording": [*source, *target],
            "spectrum": np.random.default_rng(1).normal(size=(count, 16)).tolist(),
        },
        schema={name: CLIP_SCHEMA[name] for name in COLUMNS},
    )
    part = SimpleNamespace(plan=SimpleNamespace(hold_out=hold_out))
    job = SimpleNamespace(data=SimpleNamespace(clips=clips), machine_type="fan", parts=[part])
    scores = np.random.default_rng(2).normal(size=count) + shift * (np.array(domains) == "target")
    use = ["hold-out" if domain == "source" else "hold-out-target" for domain in domains]
    table = pl.DataFrame({"clip_id": clips["clip_id"], "use": use, "score": scores})
    tests = pl.DataFrame({"clip_id": [1000], "use": ["test"], "score": [99.0]})
    return cast(ResolvedJob, job), pl.concat([table, tests])


@pytest.mark.parametrize("method", THRESHOLDS)
def test_the_higher_domain_sets_the_threshold(method: str) -> None:
    job, scores = job_and_scores([None] * 90, [None] * 10)
    stored = decision_thresholds(job, scores)[method]
    target = scores.filter(use="hold-out-target")["score"].to_numpy()
    assert stored.threshold == pytest.approx(THRESHOLDS[method](target))
    assert stored.threshold == decision_threshold(job, scores, method=method)
    assert stored.calibrated == ("source", "target")
    assert stored.shortfall is None
    assert {name: (of.units, of.units_are) for name, of in stored.held_out.items()} == {
        "source": (90, "clips"),
        "target": (10, "clips"),
    }
    alone = scores.filter(pl.col("use") != "hold-out-target")
    of_source = decision_thresholds(job, alone)[method]
    assert of_source.calibrated == ("source",)
    assert of_source.threshold is not None
    assert of_source.threshold < stored.threshold - 2


def test_recordings_count_where_they_are_known() -> None:
    job, scores = job_and_scores(
        [f"r{k // 10}" for k in range(120)], [f"t{k // 2}" for k in range(10)], shift=0
    )
    stored = decision_thresholds(job, scores)["empirical"]
    source = scores.filter(use="hold-out")["score"].to_numpy()
    target = scores.filter(use="hold-out-target")["score"].to_numpy()
    grouped = empirical_threshold(source, groups=np.arange(120) // 10)
    assert stored.threshold == pytest.approx(max(grouped, target.max()))
    assert (stored.held_out["source"].units, stored.held_out["target"].units) == (12, 5)
    assert stored.held_out["source"].units_are == "recordings"
    assert stored.calibrated == ("source",)  # five recordings raise the threshold and promise nothing
    assert (stored.held_out["source"].normals, stored.held_out["target"].normals) == (120, 10)


def test_too_few_recordings_give_no_threshold() -> None:
    job, scores = job_and_scores([f"r{k // 10}" for k in range(40)], [None] * 10)
    stored = decision_thresholds(job, scores)["empirical"]
    assert stored.threshold is None
    assert stored.calibrated == ()
    assert stored.shortfall == "too few normal clips to set a threshold: 4 recordings, needed 9"
    one = msgspec.structs.replace(stored.held_out["source"], units=1)
    of_one = msgspec.structs.replace(stored, held_out={"source": one})
    assert of_one.shortfall == "too few normal clips to set a threshold: 1 recording, needed 9"
    assert decision_threshold(job, scores) is None
    assert uncalibrated_threshold(job, scores, method="empirical") > 2


def test_eight_clips_are_too_few_and_nine_suffice() -> None:
    for count, expected in ((8, True), (9, False)):
        job, scores = job_and_scores([None] * 20, [])
        few = pl.concat([scores.head(count), scores.filter(use="test")])
        assert (decision_threshold(job, few) is None) is expected


def test_targets_that_a_training_has_seen_promise_nothing() -> None:
    job, scores = job_and_scores([None] * 90, [None] * 10, hold_out=True)
    stored = decision_thresholds(job, scores)["empirical"]
    assert stored.calibrated == ("source",)
    assert not stored.held_out["target"].is_fresh
    assert stored.threshold is not None
    assert stored.threshold > 2
