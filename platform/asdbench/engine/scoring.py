"""Component scores of a trained system, and their fusion into the anomaly score.

Components are stored for hold-out and test clips, and fused as `asdbench.engine.fitted_fusion` describes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from asdbench.data.batch_frames import BatchFrames
from asdbench.data.loader import JobData
from asdbench.engine.device_batches import MakeBatches, device_batches
from asdbench.engine.fitted_fusion import FittedFusion, Normalization
from asdbench.engine.single_clip_check import N_HOLD_OUT, N_TEST, check_component
from asdbench.engine.system_output import (
    check_same_names,
    checked_components,
    components_of_clips,
    embeddings_of_clips,
    finite_components,
    stored_embeddings,
)
from asdbench.errors import InputError
from asdbench.system import ClipBatch, Fusion, MemberScores, System

Scores = dict[str, NDArray[np.float64]]
ScoredShare = dict[str, tuple[Scores, NDArray[np.float16] | None]]
"""Component scores and embeddings of some of the clips, by their use."""

USES = ("hold-out", "hold-out-target", "training", "test")
"""Source and target normals that no fit has seen, what stands in for them, and test clips."""

_KEYS = ("clip_id", "use")


@dataclass(frozen=True, eq=False)
class ClipScores:
    """What a system says of clips.

    Attributes
    ----------
    components
        DataFrame with columns ``clip_id``, ``use`` (`USES`) and one column per component. Rows with use
        ``training`` come from :meth:`JobData.threshold_batches`, with a null ``clip_id``; they exist only
        without a hold-out.
    embeddings
        Shape (clip, dim), float16, of the clips in the order of ``components``; ``None`` if the system has no
        embeddings.
    """

    components: pl.DataFrame
    embeddings: NDArray[np.float16] | None


def component_scores(system: System, data: JobData, *, device: torch.device) -> pl.DataFrame:
    """Return all component scores of a job, as in `ClipScores`."""
    return clip_scores(system, data, device=device).components


def hold_out_scores(system: System, data: JobData, *, device: torch.device) -> pl.DataFrame:
    """Return the component scores of the hold-out clips, as in `ClipScores`; no rows where there are none."""
    system.eval()
    frames = BatchFrames(device)
    with torch.inference_mode():
        tables = [
            _table(use, ids, _scores_of(system, partial(data.raw_scoring_batches, ids), data, frames)[0])
            for use, ids in _held_out(data)
            if len(ids)
        ]
    return pl.concat(tables) if tables else pl.DataFrame()


def _held_out(data: JobData) -> list[tuple[str, NDArray[np.int64]]]:
    return [("hold-out", data.hold_out_ids), ("hold-out-target", data.target_hold_out_ids)]


def clip_scores(
    system: System, data: JobData, *, device: torch.device, folds: Sequence[pl.DataFrame] = ()
) -> ClipScores:
    """Return all component scores of a job, and the embeddings that the system has, from one pass.

    Parameters
    ----------
    system, data, device : the fitted system, its job's clips, and where they are scored
    folds : of a cross-fitting, the `hold_out_scores` of the systems that were fitted without each fold
    """
    return joined_shares([scored_share(system, data, device=device, folds=folds)], data, folds)


def scored_share(
    system: System,
    data: JobData,
    *,
    device: torch.device,
    folds: Sequence[pl.DataFrame] = (),
    rank: int = 0,
    size: int = 1,
) -> ScoredShare:
    """Return what process ``rank`` of ``size`` scores of the clips; parameters are those of `clip_scores`."""
    system.eval()
    has_embeddings = type(system).embeddings is not System.embeddings
    share, frames = ScoredShare(), BatchFrames(device)
    with torch.inference_mode():
        for use, ids, table in _uses(data, folds):
            own = data.scoring_share(ids, rank, size)
            if len(own) and (table is None or has_embeddings):
                share[use] = _scores_of(system, partial(data.raw_scoring_batches, own), data, frames)
        if rank == 0 and not len(data.hold_out_ids):
            share["training"] = _scores_of(system, data.raw_threshold_batches, data, frames)
    return share


def joined_shares(
    shares: Sequence[ScoredShare], data: JobData, folds: Sequence[pl.DataFrame] = ()
) -> ClipScores:
    """Return the scores of all clips from the `scored_share` of each process, by rank."""
    tables, embeddings = [], []
    for use, ids, table in _uses(data, folds):
        parts = [share[use] for share in shares if use in share]
        if table is None and parts:
            names = parts[0][0]
            joined = {name: np.concatenate([scores[name] for scores, _ in parts]) for name in names}
            table = _table(use, ids, joined)
        tables += [] if table is None else [table]
        embeddings += [of_clips for _, of_clips in parts if of_clips is not None]
    if "training" in shares[0]:
        scores, _ = shares[0]["training"]
        tables.append(_table("training", [None] * len(next(iter(scores.values()))), scores))
    return ClipScores(pl.concat(tables), np.concatenate(embeddings) if embeddings else None)


def _uses(
    data: JobData, folds: Sequence[pl.DataFrame]
) -> Iterator[tuple[str, NDArray[np.int64], pl.DataFrame | None]]:
    """Yield the uses of clips, with their ids and the scores that the fits without each fold gave them."""
    cross_fitted = pl.concat([fold for fold in folds if fold.width]).sort("clip_id") if folds else None
    for use, ids in (*_held_out(data), ("test", data.test_ids)):
        table = None if cross_fitted is None else cross_fitted.filter(use=use)
        if table is not None and not table.is_empty():
            yield use, ids, table
        elif use != "hold-out-target":  # those, no other fit has left out
            yield use, ids, None


def macs_per_clip(system: System, data: JobData, *, device: torch.device) -> int:
    """Return the multiply-accumulates of scoring a clip of median length, as torch counts them.

    Torch counts matrix products and convolutions, each multiply-accumulate as two operations.
    """
    ids = data.test_ids if len(data.test_ids) else data.training_ids
    clips = data.data.clips.filter(pl.col("clip_id").is_in(ids.tolist())).sort("duration_s", "clip_id")
    unfused = sdpa_kernel(SDPBackend.MATH)  # torch does not count the products of fused attention
    with torch.no_grad(), unfused, FlopCounterMode(display=False) as counter:
        for batch in data.scoring_batches([clips["clip_id"][clips.height // 2]]):
            system.components(batch.to(device))
    return int(counter.get_total_flops()) // 2


def _scores_of(
    system: System, make: MakeBatches, data: JobData, frames: BatchFrames
) -> tuple[Scores, NDArray[np.float16] | None]:
    """Return the scores and embeddings of all clips of the batches, which reach the host together."""
    parts, embeddings = frames.retried(lambda: _parts(system, device_batches(make, data.preparation, frames)))
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    scores = finite_components(system, "components", joined)
    return (
        {name: values.numpy() for name, values in scores.items()},
        stored_embeddings(system, torch.cat(embeddings)).numpy() if embeddings else None,
    )


def _parts(
    system: System, batches: Iterable[ClipBatch]
) -> tuple[list[dict[str, torch.Tensor]], list[torch.Tensor]]:
    """Return the components and the embeddings of each batch, on the device."""
    parts: list[dict[str, torch.Tensor]] = []
    embeddings: list[torch.Tensor] = []
    for batch in batches:
        parts.append(components_of_clips(system, "components", system.components(batch), batch.n_clips))
        check_same_names(system, parts[0], parts[-1])
        of_clips = embeddings_of_clips(system, system.embeddings(batch), batch.n_clips)
        embeddings += [] if of_clips is None else [of_clips]
    return parts, embeddings


def _table(use: str, ids: Sequence[int | None] | NDArray[np.int64], scores: Scores) -> pl.DataFrame:
    return pl.DataFrame(
        {"clip_id": pl.Series(ids, dtype=pl.Int64), "use": [use] * len(ids), **scores},
        schema_overrides={"clip_id": pl.Int64},
    )


def fuse_components(components: pl.DataFrame, fusion: Fusion) -> pl.DataFrame:
    """Return ``clip_id``, ``use`` and the anomaly ``score`` of a component table as in `component_scores`."""
    columns = {name: components[name].to_numpy() for name in components.columns if name not in _KEYS}
    score = FittedFusion.from_table(components, fusion).score(columns)
    return components.select("clip_id", "use", pl.Series("score", score))


def standardized(components: pl.DataFrame, name: str) -> NDArray[np.float64]:
    """Return a column as z-scores by the hold-out's mean and deviation; unchanged without a hold-out."""
    return Normalization.from_table(components, name).apply(components[name].to_numpy())


def join_members(
    system: type[System],
    config: object,
    members: Mapping[str, tuple[pl.DataFrame, Fusion]],
) -> pl.DataFrame:
    """Return the component table of an ensemble.

    Parameters
    ----------
    system, config : the ensemble
    members : by name the component table and the fusion of each member

    Returns
    -------
    pl.DataFrame
        The test clips, and the clips that every member holds out; each member is standardized on all of its
        own hold-out.

    Raises
    ------
    InputError
        A member has no hold-out, or none in common with the others, or other test clips, or a component lacks
        one value per clip, or depends on other clips although the ensemble is not ``transductive``.
    """
    tables = {name: table.sort("use", "clip_id") for name, (table, _) in members.items()}
    clips = next(iter(tables.values())).select(_KEYS)
    for name, table in tables.items():
        clips = clips.join(table, on=_KEYS, how="semi", maintain_order="left")
        if "hold-out" not in clips["use"]:
            raise InputError(
                f"{system.__name__}: member {name!r} has no hold-out clips, or none of those of the members "
                f"before it; name members that hold out the same clips"
            )
        if clips.filter(use="test").height != max(of.filter(use="test").height for of in tables.values()):
            raise InputError(
                f"{system.__name__}: member {name!r} has scores of other test clips than the first; run the "
                f"members again on the same data set"
            )
    scores: dict[str, MemberScores] = {}
    for name, (_, fusion) in members.items():
        table = tables[name]
        fused = fuse_components(table, fusion)
        weighted = FittedFusion.from_table(table, fusion).weights
        rows = table.with_row_index().join(clips, on=_KEYS, how="semi", maintain_order="left")["index"]
        common = rows.to_numpy().astype(np.int64)
        scores[name] = MemberScores(
            torch.from_numpy(standardized(fused, "score")[common]),
            {part: torch.from_numpy(standardized(table, part)[common]) for part in weighted},
        )
    combined = checked_components(system, "combine", system.combine(config, scores), clips.height)
    if not system.transductive:
        _check_combined_alone(system, config, scores, combined)
    return clips.with_columns(pl.Series(part, values.numpy()) for part, values in combined.items())


def _check_combined_alone(
    system: type[System],
    config: object,
    scores: Mapping[str, MemberScores],
    combined: Mapping[str, torch.Tensor],
) -> None:
    """Combine the scores of a handful of clips one by one; a difference is an `InputError`."""
    n_clips = len(next(iter(combined.values())))
    drawn = np.random.default_rng(n_clips).choice(n_clips, min(N_TEST + N_HOLD_OUT, n_clips), replace=False)
    alone = [
        checked_components(system, "combine", system.combine(config, _scores_of_clip(scores, clip)), 1)
        for clip in drawn.tolist()
    ]
    for name, values in combined.items():
        of_clips = np.array([float(parts[name]) for parts in alone])
        check_component(system, name, of_clips, values.numpy()[drawn], values.numpy())


def _scores_of_clip(scores: Mapping[str, MemberScores], clip: int) -> dict[str, MemberScores]:
    one = slice(clip, clip + 1)
    return {
        name: MemberScores(of.score[one], {part: values[one] for part, values in of.components.items()})
        for name, of in scores.items()
    }
