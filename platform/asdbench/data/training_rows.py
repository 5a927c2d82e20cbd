"""Which rows a training step has: clips, windows, keys of random numbers, transforms.

What is random is keyed by (seed, purpose, epoch or step), never by process: batch ``step`` has the same rows
for every number of processes that share it, and each process takes every ``size``-th of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asdbench.data.random_streams import EPOCH, STEP, VALIDATION, stream
from asdbench.data.training_clips import TrainingClips
from asdbench.errors import InputError, unknown_name
from asdbench.features.augment import TRANSFORMS
from asdbench.features.transform_draws import assigned
from asdbench.random_by_row import row_keys
from asdbench.system import BatchPlan, InputSpec, Scope

_KEYS_AT_ONCE = 16_384  # a GPU's batches are made by threads, which may be at different steps


@dataclass(frozen=True)
class Rows:
    """Rows of a training batch.

    Attributes
    ----------
    starts : Int[ndarray, "row"], first frame of each window among those of its machine type
    clip : Int[ndarray, "row"], index among the training clips
    keys : Long[Tensor, "row"], keys of random numbers
    own : number of rows of ordinary clips, which come first
    transforms : Long[Tensor, "row"], index of each row's transform among the plan's augmentations, if it has
        some
    """

    starts: NDArray[np.int64]
    clip: NDArray[np.int64]
    keys: Tensor
    own: int
    transforms: Tensor | None = None

    def of_process(self, rank: int, size: int) -> "Rows":
        """Return the rows that fall to process ``rank`` of ``size``."""
        mine = slice(rank, None, size)
        own = len(range(rank, self.own, size))
        transforms = None if self.transforms is None else self.transforms[mine]
        return Rows(self.starts[mine], self.clip[mine], self.keys[mine], own, transforms)


class TrainingRows:
    """Draws the rows of training steps.

    Parameters
    ----------
    clips : all clips that training draws from
    plan : of the batches
    seed : of all draws
    own : index of the job's machine type
    trained_types : number of machine types that are trained on; later ones serve as pseudo-anomalies
    window_frames : length of a window; ``None`` if training has no steps
    """

    def __init__(
        self,
        clips: TrainingClips,
        plan: BatchPlan,
        seed: int,
        *,
        own: int,
        trained_types: int,
        window_frames: int | None,
    ) -> None:
        self._clips, self._plan, self._seed = clips, plan, seed
        self._frames, self._trained_types, self._own = window_frames, trained_types, own
        self._last_order: tuple[int, NDArray[np.int64]] | None = None
        self._last_keys: tuple[range, Tensor] | None = None

    @cached_property
    def is_trained(self) -> NDArray[np.bool_]:
        """Whether a clip is an ordinary one: no pseudo-anomaly, not supplemental; shape (clip,)."""
        clips = self._clips
        is_trained: NDArray[np.bool_] = (clips.machine < self._trained_types) & ~clips.supplemental
        return is_trained

    @cached_property
    def is_own(self) -> NDArray[np.bool_]:
        """Whether a clip is a training clip of the job's machine type; shape (clip,)."""
        is_own: NDArray[np.bool_] = self.is_trained & (self._clips.machine == self._own)
        return is_own

    @property
    def window_frames(self) -> int:
        """Length of the windows of training rows."""
        if self._frames is None:
            raise InputError(
                "training steps and plans that draw every window need windows; set InputSpec.window_frames "
                "to a number of frames, or train in fit_backend"
            )
        return self._frames

    @cached_property
    def windows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frame and clip of every training window, for ``every-window`` plans."""
        clips = self._clips
        counts = clips.stop - clips.start - self.window_frames + 1
        clip = np.repeat(np.arange(len(counts)), counts)
        offset = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)
        return clips.start[clip] + offset, clip

    @cached_property
    def window_split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Windows that training steps take, and those kept for validation."""
        count = len(self.windows[0])
        order = stream(self._seed, VALIDATION).permutation(count)
        kept = round(self._plan.validation_share * count)
        return np.sort(order[kept:]), np.sort(order[:kept])

    def own_windows(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some training windows that are of the job's machine type."""
        own: NDArray[np.int64] = windows[self.is_own[self.windows[1][windows]]]
        return own

    def back_end_order(self) -> NDArray[np.int64]:
        """Return the job's own training windows in the order of the pass that back ends are fitted to."""
        return stream(self._seed, EPOCH, 2**31).permutation(self.own_windows(self.window_split[0]))

    @cached_property
    def _row_counts(self) -> tuple[int, int, int]:
        """Rows of source clips, target clips and other machine types in a ``window-per-clip`` batch.

        The supplemental rows come in addition to these, within the size of the batch.
        """
        size = self._plan.size - self._plan.supplemental_rows
        pseudo_anomaly_data = round(self._plan.pseudo_anomaly_share * size)
        target = self._plan.target_rows
        if not (self.is_trained & (self._clips.domain == 1)).any():
            target = 0
        return size - pseudo_anomaly_data - target, target, pseudo_anomaly_data

    @cached_property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch."""
        if self._plan.draw == "every-window":
            whole, rest = divmod(len(self.window_split[0]), self._plan.size)
            return whole + (rest > 1) or 1  # batch norm cannot take a single row
        n_source = int((self.is_trained & (self._clips.domain == 0)).sum())
        return max(1, -(-n_source // self._row_counts[0]))

    def of_step(self, step: int) -> Rows:
        """Return the rows of the global batch of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        generator = stream(self._seed, STEP, step)
        if self._plan.draw == "every-window":
            chosen = self._order(epoch)[place * self._plan.size : (place + 1) * self._plan.size]
            starts, clip = (column[chosen] for column in self.windows)
            own = len(clip)
        else:
            clip = self._draw_clips(epoch, place, step, generator)
            clips = self._clips
            room = clips.stop[clip] - clips.start[clip] - self.window_frames
            starts = clips.start[clip] + generator.integers(0, room + 1)
            own = sum(self._row_counts[:2])
        keys = self._keys(step)[: len(clip)]
        return Rows(starts, clip, keys, own, self._transforms(step, len(clip)))

    def _keys(self, step: int) -> Tensor:
        """Return the keys of the rows of a step, Long[Tensor, "row"]; its neighbors' are made, too."""
        last, size = self._last_keys, self._plan.size
        if last is None or step not in last[0]:
            n_steps = max(1, _KEYS_AT_ONCE // size)
            first = step - step % n_steps
            steps = range(first, first + n_steps)
            last = self._last_keys = steps, row_keys(self._seed, steps, size)
        return last[1][step - last[0].start]

    def _transforms(self, step: int, rows: int) -> Tensor | None:
        """Return which transform each row passes through; the first target row has the identity."""
        source_rows, target_rows, _ = self._row_counts
        names, intact = self._plan.augmentations, source_rows if target_rows else None
        return assigned(names, seed=self._seed, step=step, rows=rows, intact=intact) if names else None

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of the windows in an epoch; several threads may ask for those of two epochs."""
        last = self._last_order
        if last is None or last[0] != epoch:
            last = epoch, stream(self._seed, EPOCH, epoch).permutation(self.window_split[0])
            self._last_order = last
        return last[1]

    def _draw_clips(
        self, epoch: int, place: int, step: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        source_rows, target_rows, other_rows = self._row_counts
        clips = self._clips
        source = np.flatnonzero(self.is_trained & (clips.domain == 0))
        target = np.flatnonzero(self.is_trained & (clips.domain == 1))
        order = stream(self._seed, EPOCH, epoch).permutation(source)
        drawn = [np.take(order, np.arange(place * source_rows, (place + 1) * source_rows), mode="wrap")]
        if target_rows:
            turn = np.arange(step * target_rows, (step + 1) * target_rows)
            drawn.append(np.take(stream(self._seed, EPOCH).permutation(target), turn, mode="wrap"))
        if other_rows:
            others = np.flatnonzero(clips.machine >= self._trained_types)
            drawn.append(generator.choice(others, other_rows))
        if self._plan.supplemental_rows:
            supplement = np.flatnonzero(clips.supplemental)
            drawn.append(generator.choice(supplement, self._plan.supplemental_rows))
        return np.concatenate(drawn)


def check_plan(plan: BatchPlan, scope: Scope, input_spec: InputSpec) -> None:
    """Raise :class:`InputError` unless a batch plan is possible with this scope and input."""
    if plan.hold_out not in (True, False, "cross-fit"):
        raise InputError(f"a batch plan has hold_out={plan.hold_out!r}; give True, False or 'cross-fit'")
    if input_spec.encoder is not None and plan.draw == "every-window":
        raise InputError("a plan that draws every window takes no embeddings; draw 'window-per-clip'")
    if scope == "data set" and plan.pseudo_anomaly_share:
        raise InputError(
            f"a batch plan with pseudo_anomaly_share={plan.pseudo_anomaly_share} does not go with the scope "
            f"'data set', in which rows of all machine types are ordinary; leave it at 0"
        )
    if plan.draw == "every-window" and (plan.pseudo_anomaly_share or plan.target_rows or plan.augmentations):
        raise InputError(
            "a batch plan that draws every window takes no pseudo_anomaly_share, target_rows or augmentations"
        )
    if plan.draw == "every-window" and plan.supplemental_rows:
        raise InputError("a batch plan that draws every window takes no supplemental_rows")
    _check_composition(plan)
    if plan.augmentations and (input_spec.features or input_spec.second_channel):
        raise InputError(
            "augmentations change windows and waveform alone; leave them out, or the further features and "
            "the second channel"
        )
    for name in plan.augmentations:
        if name not in TRANSFORMS:
            raise unknown_name("augmentation", name, TRANSFORMS)


def _check_composition(plan: BatchPlan) -> None:
    own_rows = plan.size - plan.supplemental_rows
    other_rows = round(plan.pseudo_anomaly_share * own_rows)
    if plan.draw == "window-per-clip" and own_rows - other_rows - plan.target_rows < 1:
        raise InputError(
            f"batches of {plan.size} rows with {plan.target_rows} of target clips, {other_rows} of other "
            f"machine types and {plan.supplemental_rows} of supplemental clips have none left for source "
            f"clips; choose larger batches, or fewer rows of the others"
        )


def chunks(order: NDArray[np.int64], size: int) -> Sequence[NDArray[np.int64]]:
    """Return neighboring parts of ``order``, of ``size`` each but the last.

    >>> [chunk.tolist() for chunk in chunks(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    return [order[start : start + size] for start in range(0, len(order), size)]
