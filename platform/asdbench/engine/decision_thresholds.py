"""The decision threshold of a job: which normal clips it comes from, and what it promises in which domain.

The clips are those of the hold-out, of both domains where both are held out, and without a hold-out what
:meth:`asdbench.data.loader.JobData.threshold_batches` gives. Nobody knows the domain of a clip that is
scored, so the threshold is the larger one of the two domains (`asdbench.metrics.shared_threshold`).

Where recordings are known, they are counted instead of clips. With fewer of the source domain than
`asdbench.metrics.least_groups` there is no threshold, and so no decision. Target-domain clips that are too
few, or that a training has seen and the fit of its back end alone has not, still raise the threshold, but
nothing is promised for that domain.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from asdbench.data import holdout
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.result_record import HeldOutNormals, StoredThreshold
from asdbench.metrics import DEFAULT_THRESHOLD, THRESHOLDS, least_groups, left_out_alarms, shared_threshold


@dataclass(frozen=True, eq=False)
class _Normals:
    """Normal clips that a threshold comes from; shape (clip,) each.

    ``group`` are those that are held out together, ``unit`` what ranks count: the recording, or the clip.
    ``has_fresh_targets`` says whether target-domain clips were left out of trainings as well as of fits.
    """

    score: NDArray[np.float64]
    domain: NDArray[np.str_]
    group: NDArray[np.int64]
    unit: NDArray[np.int64]
    units_are: str
    has_fresh_targets: bool


def decision_thresholds(resolved: ResolvedJob, scores: pl.DataFrame) -> dict[str, StoredThreshold]:
    """Return each method's threshold, and its false alarms among normal clips of groups that it has not seen.

    ``scores`` are the `asdbench.engine.evaluation.anomaly_scores` of the job. Without a hold-out every score
    is a group of its own.
    """
    normals = _normals(resolved, scores)
    return {method: _stored(normals, method) for method in THRESHOLDS}


def decision_threshold(
    resolved: ResolvedJob, scores: pl.DataFrame, *, method: str = DEFAULT_THRESHOLD
) -> float | None:
    """Return the score above which a clip is called anomalous; ``None`` where normal clips are too few."""
    normals = _normals(resolved, scores)
    return _limit(normals, method) if _n_units(normals)["source"] >= least_groups() else None


def uncalibrated_threshold(resolved: ResolvedJob, scores: pl.DataFrame, *, method: str) -> float:
    """Return the threshold from however few normal clips, for files that must have a decision."""
    return _limit(_normals(resolved, scores), method)


def _stored(normals: _Normals, method: str) -> StoredThreshold:
    exceeds = left_out_alarms(
        normals.score, method=method, groups=normals.group, domains=normals.domain, units=normals.unit
    )
    domains = {
        domain: HeldOutNormals(
            0 if exceeds is None else int(exceeds[normals.domain == domain].sum()),
            0 if exceeds is None else int((normals.domain == domain).sum()),
            n_units,
            normals.units_are,
            domain == "source" or normals.has_fresh_targets,
        )
        for domain, n_units in _n_units(normals).items()
    }
    is_calibrated = domains["source"].units >= least_groups()
    return StoredThreshold(_limit(normals, method) if is_calibrated else None, domains, least_groups())


def _limit(normals: _Normals, method: str) -> float:
    return float(shared_threshold(normals.score, normals.domain, method=method, groups=normals.unit))


def _n_units(normals: _Normals) -> dict[str, int]:
    """Return how many recordings, or clips, of each domain are held out."""
    names = [str(name) for name in np.unique(normals.domain)]
    return {name: len(np.unique(normals.unit[normals.domain == name])) for name in names}


def _normals(resolved: ResolvedJob, scores: pl.DataFrame) -> _Normals:
    normal = scores.filter(pl.col("use") != "test")
    score, single = normal["score"].to_numpy(), np.arange(normal.height)
    is_target = (normal["use"] == "hold-out-target").to_numpy()
    domain = np.where(is_target, "target", "source")
    if normal["clip_id"].has_nulls():
        return _Normals(score, domain, single, single, "clips", False)
    clips = resolved.data.clips.filter(machine_type=resolved.machine_type, split="train")
    ids = normal["clip_id"].to_numpy()
    source = holdout.groups(clips)
    group = np.empty(len(ids), object)
    group[~is_target] = [f"{source.kind} {index}" for index in source.of(ids[~is_target])]
    group[is_target] = [f"target {index}" for index in holdout.group_of_targets(clips, ids[is_target])]
    if source.kind == "recordings":
        group = _by_recording(clips, ids)
    index = np.unique(group.astype(str), return_inverse=True)[1]
    is_fresh = all(part.plan.hold_out == "cross-fit" for part in resolved.parts)
    if source.kind == "recordings":
        return _Normals(score, domain, index, index, "recordings", is_fresh)
    unit = np.where(is_target, index, len(ids) + single)  # blocks are alike by design, so that clips count
    return _Normals(score, domain, index, unit, "clips", is_fresh)


def _by_recording(clips: pl.DataFrame, clip_ids: NDArray[np.int64]) -> NDArray[np.object_]:
    """Return the recording of each clip, whatever its domain; the clip's own id where that is unknown."""
    recordings = dict(clips.select("clip_id", "recording").iter_rows())
    return np.array([recordings[clip_id] or f"\0{clip_id}" for clip_id in clip_ids.tolist()], object)
