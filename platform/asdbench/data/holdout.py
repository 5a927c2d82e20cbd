"""The hold-out: normal training clips that no training sees, for standardization and decision thresholds.

A tenth of a machine type's source-domain training clips (a fifth where there are fewer than 80), never fewer
than 8, drawn at random but in proportion over the combinations of attribute values. Where several clips were
cut from one recording, whole recordings are drawn instead, until there are enough clips, but no more than
half of all; where the recordings are too large for that, clips are drawn after all. A clip of unknown
recording stands for itself. Target-domain clips stay in training: there are too few of them. Where there are
no domains, every clip counts as source.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from asdbench.errors import InputError

LEAST_CLIPS = 8


def hold_out_size(source_clips: int) -> int:
    """Return how many of ``source_clips`` clips are held out.

    Raises :class:`InputError` where that would leave nothing to train on.
    """
    if source_clips <= LEAST_CLIPS:
        raise InputError(
            f"{source_clips} source-domain training clips are too few: {LEAST_CLIPS} are held out of "
            f"training for standardization and thresholds, so at least {LEAST_CLIPS + 1} are needed"
        )
    share = 0.2 if source_clips < 80 else 0.1
    return max(LEAST_CLIPS, round(share * source_clips))


def hold_out(clips: pl.DataFrame, *, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return the ids of the held-out clips, sorted; shape (clip,).

    Parameters
    ----------
    clips
        The training clips of one machine type: rows of the clip table.
    generator
        Decides which clips are drawn; the order of ``clips`` does not matter.
    """
    source = clips.filter(pl.col("domain").ne_missing("target")).sort("clip_id")
    wanted = hold_out_size(source.height)
    ids = source["clip_id"].to_numpy()
    recordings = source["recording"].to_list()
    known = [recording for recording in recordings if recording]
    groups = [(recording or "", 0 if recording else k) for k, recording in enumerate(recordings)]
    chosen = _whole_groups(groups, wanted, generator) if len(set(known)) < len(known) else []
    if len(chosen) < LEAST_CLIPS:
        combinations = [
            tuple((a["name"], a["value"]) for a in row or []) for row in source["attributes"].to_list()
        ]
        chosen = _in_proportion(combinations, wanted, generator)
    return np.sort(ids[chosen])


def _whole_groups(
    groups: Sequence[tuple[str, int]], wanted: int, generator: np.random.Generator
) -> list[int]:
    members: dict[tuple[str, int], list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    chosen: list[int] = []
    order = sorted(members)
    for pick in generator.permutation(len(order)):
        whole = members[order[pick]]
        if len(chosen) < wanted and len(chosen) + len(whole) <= len(groups) // 2:
            chosen += whole
    return chosen


def _in_proportion(combinations: Sequence[object], wanted: int, generator: np.random.Generator) -> list[int]:
    """Draw ``wanted`` positions so that each combination gives its share, to the nearest clip."""
    members: dict[object, list[int]] = {}
    for position, combination in enumerate(combinations):
        members.setdefault(combination, []).append(position)
    # Every clip gets the rank that it has within its own combination, in random order, as a share from 0
    # to 1; the clips with the lowest shares are an even cut through all combinations.
    share = np.empty(len(combinations))
    for positions in members.values():
        ranks = generator.permutation(len(positions))
        share[positions] = (ranks + generator.random()) / len(positions)
    return [int(position) for position in np.argsort(share, kind="stable")[:wanted]]
