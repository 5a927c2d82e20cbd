"""Component scores of a trained system, and their fusion into the anomaly score.

Components are stored for hold-out and test clips. Each is standardised with mean and deviation over the
hold-out normals, then weighed. Without a hold-out nothing is standardised.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from asdbench.data.loader import JobData
from asdbench.errors import InputError
from asdbench.system import ClipBatch, System

Scores = dict[str, NDArray[np.float64]]


def component_scores(system: System, data: JobData, *, device: torch.device) -> pl.DataFrame:
    """Return all component scores of a job.

    Returns
    -------
    DataFrame with columns ``clip_id``, ``use`` (``"hold-out"``, ``"training"`` or ``"test"``) and one
    column a component. Rows of use ``training`` are what :meth:`JobData.threshold_batches` gives, with
    ``clip_id`` null; they are there only where there is no hold-out.
    """
    system.eval()
    tables = []
    with torch.inference_mode():
        for use, ids in (("hold-out", data.hold_out_ids), ("test", data.test_ids)):
            if len(ids):
                tables.append(_table(use, ids, _scores_of(system, data.scoring_batches(ids), device)))
        if not len(data.hold_out_ids):
            scores = _scores_of(system, data.threshold_batches(), device)
            tables.append(_table("training", [None] * len(next(iter(scores.values()))), scores))
    return pl.concat(tables)


def _scores_of(system: System, batches: Iterable[ClipBatch], device: torch.device) -> Scores:
    found: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        for name, values in system.components(batch.to(device)).items():
            if values.shape != (batch.clips,):
                raise InputError(
                    f"{type(system).__name__}.components gives {tuple(values.shape)} values of {name!r} for "
                    f"{batch.clips} clips; it must give one value a clip"
                )
            found.setdefault(name, []).append(values.double().cpu())
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def _table(use: str, ids: Sequence[int | None] | NDArray[np.int64], scores: Scores) -> pl.DataFrame:
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise InputError(
                f"component {name!r} has {int((~np.isfinite(values)).sum())} scores that are not finite"
            )
    return pl.DataFrame(
        {"clip_id": pl.Series(ids, dtype=pl.Int64), "use": [use] * len(ids), **scores},
        schema_overrides={"clip_id": pl.Int64},
    )


def fuse(components: pl.DataFrame, weights: Mapping[str, float] | None) -> pl.DataFrame:
    """Return ``clip_id``, ``use`` and the anomaly ``score`` of every row of a component table.

    Parameters
    ----------
    components : as :func:`component_scores` gives them
    weights : weight of each component by name; ``None`` weighs all equally
    """
    names = [name for name in components.columns if name not in ("clip_id", "use")]
    chosen = weights if weights is not None else dict.fromkeys(names, 1 / len(names))
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise InputError(f"fusion weights name component {unknown[0]!r}; the system has: {', '.join(names)}")
    held_out = components.filter(pl.col("use") == "hold-out")
    score = np.zeros(components.height)
    for name, weight in chosen.items():
        values = components[name].to_numpy()
        if held_out.height:
            normal = held_out[name].to_numpy()
            values = (values - normal.mean()) / max(normal.std(), 1e-12)
        score += weight * values
    return components.select("clip_id", "use", pl.Series("score", score))


def write_components(path: Path, components: pl.DataFrame) -> None:
    """Write a component table as Parquet, atomically."""
    from asdbench.files import replacing

    with replacing(path) as temporary:
        components.write_parquet(temporary)
