"""Batches of stored spectrograms (:class:`~asdbench.system.ClipBatch`) for training, validation and scoring.

What is random is keyed by (seed, purpose, epoch or step), never by process: batch ``step`` has the same rows
for every number of processes that share it, and each process takes every ``size``-th of them.

This module keeps a system from data that it must not see: training rows come from the training split without
the hold-out (that of every machine type where one training is for all; of a cross-fitting, the fold that the
training is to score), never from supplemental or test clips, and a training clip whose content is that of a
test clip of the job's data set is rejected, whatever its source; scoring batches carry neither domain nor
attributes; nothing here knows a label or a path.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.data import feature_store
from asdbench.data.clip_windows import (
    Standardization,
    crop_samples,
    crops,
    feature_starts,
    first_sample,
    grouped,
    regrouped,
    repeated,
    window_starts,
)
from asdbench.data.embeddings import embeddings
from asdbench.data.holdout import N_FOLDS, folds, hold_out, target_folds
from asdbench.data.mel_frames import MelFrames
from asdbench.data.sets.catalog import DataSet
from asdbench.data.training_clips import (
    TrainingClips,
    check_pairs,
    columns_of,
    facts_of,
    group_indices,
    pseudo_anomaly_types,
    reject_leaks,
    supplemental_clips,
    trained_types,
    training_clips,
)
from asdbench.errors import InputError, unknown_name
from asdbench.features.augment import ON_WAVEFORM, TRANSFORMS
from asdbench.features.mel import log_mel_of_padded
from asdbench.features.row_by_row import augmented_crops, mask_windows
from asdbench.system import UNKNOWN, BatchPlan, ClipBatch, InputSpec, Scope

# what is computed once, whichever of the clips are trained on
_OF_RECORDINGS = ("_sources", "_mels", "_features", "_waveforms", "_second_waveforms", "_encoded")
_EPOCH, _STEP, _VALIDATION, _HOLD_OUT = range(4)  # purposes of random streams


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random stream of ``key`` under ``seed``."""
    return np.random.default_rng([seed, *key])


class JobData:
    """The clips of one job: a machine type of a data set, as a system with this input specification sees it.

    Parameters
    ----------
    data : the data set
    machine_type : the job's machine type
    input_spec, plan : input and batches that the system requests
    seed : seed of all random streams
    hold_out_seed : seed of the hold-out, if not ``seed``
    pseudo_anomaly_data : data set whose machine types serve as pseudo-anomalies (but for one of the same
        name); ``None`` for the other types of ``data``
    scope : whether training draws from the job's machine type or from all types of ``data``

    Attributes
    ----------
    training_ids, hold_out_ids, test_ids : ids of the machine type's clips by use, sorted; with
        cross-fitting, source-domain training clips are in both of the first two
    target_hold_out_ids : ids of the target-domain training clips that folds leave out, sorted
    n_folds : number of folds of a cross-fitting, else 0
    n_target_folds : number of folds of target-domain clips that a fit alone leaves out: those of a plan with
        a hold-out and without cross-fitting
    facts : what the system may know before training

    Raises
    ------
    InputError
        Clips or other machine types are too few, or a training clip has the content of a test clip.
    """

    def __init__(
        self,
        data: DataSet,
        machine_type: str,
        *,
        input_spec: InputSpec,
        plan: BatchPlan,
        seed: int,
        pseudo_anomaly_data: DataSet | None = None,
        scope: Scope = "machine",
        hold_out_seed: int | None = None,
    ) -> None:
        _check(plan, scope, input_spec)
        if input_spec.encoder is not None and plan.draw == "every-window":
            raise InputError("a plan that draws every window takes no embeddings; draw 'window-per-clip'")
        self.data, self.machine_type, self.input_spec, self.plan, self.seed = (
            data,
            machine_type,
            input_spec,
            plan,
            seed,
        )
        self.scope = scope
        self._hold_out_seed = seed if hold_out_seed is None else hold_out_seed
        self._others = (
            pseudo_anomaly_types(data, machine_type, pseudo_anomaly_data) if plan.pseudo_anomaly_share else []
        )
        self._trained_types = trained_types(data, machine_type, scope)
        self._own = self._trained_types.index(machine_type)
        splits = ("train", "supplemental") if plan.supplemental_rows else ("train",)
        reject_leaks(data, self._sources, splits=splits)
        if input_spec.second_channel:
            check_pairs(self._sources)
        self._supplement = supplemental_clips(data, self._trained_types) if plan.supplemental_rows else {}
        self._folds = {name: self._held_out(name) for name in self._trained_types}
        is_cross_fitted = plan.hold_out == "cross-fit"
        self._target_folds = {
            name: self._held_out_targets(name, of_type) for name, of_type in self._folds.items()
        }
        self.n_folds = max(map(len, self._folds.values())) if is_cross_fitted else 0
        self.hold_out_ids = _joined(self._folds[machine_type])
        self.target_hold_out_ids = _joined(self._target_folds[machine_type])
        self.n_target_folds = 0 if is_cross_fitted else len(self._target_folds[machine_type])
        self._train_without(None if is_cross_fitted else 0)
        tested = data.clips.filter((pl.col("machine_type") == machine_type) & (pl.col("split") == "test"))
        self.test_ids = tested["clip_id"].sort().to_numpy()
        self._groups = group_indices(self._training)
        self.facts = facts_of(self._training, groups=len(self._groups))
        self._pseudo_labels: NDArray[np.int64] | None = None

    def _held_out(self, machine_type: str) -> list[NDArray[np.int64]]:
        """Return the ids of the clips of a machine type that are held out, in folds; each type's by one draw.

        Without cross-fitting there is a single fold, or none. A type besides the job's own that has too few
        clips holds out nothing, since nothing of it can be scored; what is trained is the same for every job.
        """
        if not self.plan.hold_out:
            return []
        clips, generator = training_clips(self.data, machine_type), stream(self._hold_out_seed, _HOLD_OUT)
        try:
            if self.plan.hold_out == "cross-fit":
                return folds(clips, generator=generator)
            return [hold_out(clips, generator=generator)]
        except InputError as error:
            if machine_type != self.machine_type:
                return []
            raise InputError(
                f"machine type {machine_type!r} of data set {self.data.name!r}: {error}"
            ) from None

    def _held_out_targets(
        self, machine_type: str, source_folds: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.int64]]:
        """Return the ids of a machine type's target-domain clips in folds; no folds where there are none.

        Without cross-fitting only a fit can leave them out, which is of the job's own machine type.
        """
        clips = training_clips(self.data, machine_type)
        if self.plan.hold_out == "cross-fit":
            return target_folds(clips, source_folds)
        if not self.plan.hold_out or machine_type != self.machine_type:
            return []
        divided = target_folds(clips, [np.empty(0, np.int64)] * N_FOLDS)
        return [fold for fold in divided if len(fold)]

    def without_target_fold(self, fold: int) -> "JobData":
        """Return the clips for a fit that leaves out one of ``n_target_folds``, which is its hold-out.

        It leaves out the source clips of the same recordings, too.
        """
        left_out = self._target_folds[self.machine_type][fold]
        own = self._training[self.machine_type]
        recordings = own.filter(pl.col("clip_id").is_in(left_out.tolist()))["recording"].drop_nulls()
        is_left_out = pl.col("clip_id").is_in(left_out.tolist()) | (
            pl.col("recording").is_in(recordings.to_list()).fill_null(False)
        )
        other = self._copy()
        other.hold_out_ids, other.target_hold_out_ids = np.empty(0, np.int64), left_out
        other.n_target_folds = 0
        other._training = {**self._training, self.machine_type: own.filter(~is_left_out)}
        other.training_ids = other._training[self.machine_type]["clip_id"].to_numpy()
        return other

    def _train_without(self, fold: int | None) -> None:
        """Set the training clips: those that are not in this fold, which a machine type need not have."""
        self._training = {}
        for name in self._folds:
            left_out = [self._of_fold(self._folds, name, fold)]
            if self.plan.hold_out == "cross-fit":
                left_out.append(self._of_fold(self._target_folds, name, fold))
            is_left_out = pl.col("clip_id").is_in(_joined(left_out).tolist())
            self._training[name] = training_clips(self.data, name).filter(~is_left_out)
        self.training_ids = self._training[self.machine_type]["clip_id"].to_numpy()

    @staticmethod
    def _of_fold(
        folds: Mapping[str, Sequence[NDArray[np.int64]]], machine_type: str, fold: int | None
    ) -> NDArray[np.int64]:
        """Return the clips of a machine type in a fold, which it need not have."""
        of_type = folds[machine_type]
        return np.empty(0, np.int64) if fold is None or fold >= len(of_type) else of_type[fold]

    def without_fold(self, fold: int) -> "JobData":
        """Return the clips for a training that leaves out a fold, one of ``n_folds``, which is its hold-out.

        A machine type may have fewer folds; its hold-out is empty then. Facts are those of all clips, so that
        models have the same shape. What is known of the recordings is shared.
        """
        other = self._copy()
        other.hold_out_ids = self._of_fold(self._folds, self.machine_type, fold)
        other.target_hold_out_ids = self._of_fold(self._target_folds, self.machine_type, fold)
        other.n_folds = 0
        other._train_without(fold)
        return other

    def _copy(self) -> "JobData":
        """Return a copy that shares what is known of recordings, and nothing that depends on the clips."""
        other = copy.copy(self)
        for name in [*vars(other)]:
            if isinstance(getattr(JobData, name, None), cached_property) and name not in _OF_RECORDINGS:
                del vars(other)[name]
        vars(other).pop("_order_of", None)
        return other

    def with_plan(self, plan: BatchPlan | None) -> "JobData":
        """Return the same clips drawn by another plan, which differs in the make-up of batches alone."""
        if plan is None or plan == self.plan:
            return self
        _check(plan, self.scope, self.input_spec)
        same = replace(plan, hold_out=self.plan.hold_out, validation_share=self.plan.validation_share)
        lacks_clips = (plan.pseudo_anomaly_share and not self._others) or (
            plan.supplemental_rows and not self._supplement
        )
        if plan != same or plan.draw != self.plan.draw or lacks_clips:
            raise InputError(
                "a stage's batch plan may differ in size, shares, target rows and augmentations only, and "
                "may draw pseudo-anomalies and supplemental rows only if System.batch_plan does"
            )
        other = copy.copy(self)
        other.plan = plan
        for cached in ("_row_counts", "steps_per_epoch"):
            vars(other).pop(cached, None)
        return other

    @cached_property
    def _sources(self) -> list[tuple[DataSet, str]]:
        """The machine types that are trained on, then pseudo-anomalies, each with its data set."""
        return [*((self.data, name) for name in self._trained_types), *self._others]

    @cached_property
    def _mels(self) -> MelFrames:
        spec = self.input_spec
        return MelFrames(self._sources, spec.mel, min_frames=spec.min_frames)

    @cached_property
    def _features(self) -> dict[str, MelFrames]:
        spec = self.input_spec
        return {
            name: MelFrames(self._sources, mel, min_frames=spec.frames_of(mel, spec.min_frames))
            for name, mel in spec.features.items()
        }

    @cached_property
    def _waveforms(self) -> list[feature_store.Shard]:
        return [feature_store.waveforms(data, machine) for data, machine in self._sources]

    @cached_property
    def _encoded(self) -> list[feature_store.Shard]:
        assert self.input_spec.encoder is not None
        return [embeddings(data, machine, self.input_spec.encoder) for data, machine in self._sources]

    @cached_property
    def _second_waveforms(self) -> list[feature_store.Shard]:
        far = [(replace(data, channels="far"), machine) for data, machine in self._sources]
        return [feature_store.waveforms(data, machine) for data, machine in far]

    @cached_property
    def _clips(self) -> TrainingClips:
        tables = [(index, *pair) for index, pair in enumerate(self._training.items())]
        tables += [(self._trained_types.index(name), name, table) for name, table in self._supplement.items()]
        named: list[tuple[int, str | None, pl.DataFrame]] = [*tables]
        for index, (data, other) in enumerate(self._others, start=len(self._trained_types)):
            named.append((index, None, training_clips(data, other)))
        columns = [
            columns_of(table, self._mels.layouts[machine], machine, name, self.facts, self._groups)
            for machine, name, table in named
        ]
        return TrainingClips(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    @cached_property
    def _is_trained(self) -> NDArray[np.bool_]:
        """Whether a clip is an ordinary one: no pseudo-anomaly, not supplemental; shape (clip,)."""
        clips = self._clips
        is_trained: NDArray[np.bool_] = (clips.machine < len(self._trained_types)) & ~clips.supplemental
        return is_trained

    @cached_property
    def _is_own(self) -> NDArray[np.bool_]:
        """Whether a clip is a training clip of the job's machine type; shape (clip,)."""
        is_own: NDArray[np.bool_] = self._is_trained & (self._clips.machine == self._own)
        return is_own

    @property
    def _window_frames(self) -> int:
        """Length of the windows of training rows."""
        if self.input_spec.window_frames is None:
            raise InputError(
                "training steps and plans that draw every window need windows; set InputSpec.window_frames "
                "to a number of frames, or train in fit_backend"
            )
        return self.input_spec.window_frames

    # Training rows

    @cached_property
    def _windows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First frame and clip of every training window, for ``every-window`` plans."""
        clips = self._clips
        counts = clips.stop - clips.start - self._window_frames + 1
        clip = np.repeat(np.arange(len(counts)), counts)
        offset = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)
        return clips.start[clip] + offset, clip

    @cached_property
    def _window_split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Windows that training steps take, and those kept for validation."""
        count = len(self._windows[0])
        order = stream(self.seed, _VALIDATION).permutation(count)
        kept = round(self.plan.validation_share * count)
        return np.sort(order[kept:]), np.sort(order[:kept])

    @cached_property
    def _row_counts(self) -> tuple[int, int, int]:
        """Rows of source clips, target clips and other machine types in a ``window-per-clip`` batch.

        The supplemental rows come in addition to these, within the size of the batch.
        """
        size = self.plan.size - self.plan.supplemental_rows
        pseudo_anomaly_data = round(self.plan.pseudo_anomaly_share * size)
        target = self.plan.target_rows
        if not (self._is_trained & (self._clips.domain == 1)).any():
            target = 0
        return size - pseudo_anomaly_data - target, target, pseudo_anomaly_data

    @cached_property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch."""
        if self.plan.draw == "every-window":
            whole, rest = divmod(len(self._window_split[0]), self.plan.size)
            return whole + (rest > 1) or 1  # batch norm cannot take a single row
        n_source = int((self._is_trained & (self._clips.domain == 0)).sum())
        return max(1, -(-n_source // self._row_counts[0]))

    def batch(self, step: int, *, rank: int = 0, size: int = 1) -> ClipBatch:
        """Return the rows of training step ``step`` that fall to process ``rank`` of ``size``."""
        starts, clip, keys = (column[rank::size] for column in self._rows(step))
        batch = replace(self._training_batch(starts, clip, keys), own_rows=int(self._is_trained[clip].sum()))
        batch = self._with_tokens(batch, self._clips.machine[clip], self._clips.clip_id[clip])
        return self._augmented(batch, starts, clip, keys) if self.plan.augmentations else batch

    def backend_batches(self) -> Iterator[ClipBatch]:
        """Yield one more pass over the training clips of the job's machine type, as if training continued.

        ``every-window`` plans give the batches of one more epoch; ``window-per-clip`` plans give each
        clip's windows as at scoring, with domain and attributes.
        """
        if self.plan.draw == "every-window":
            order = stream(self.seed, _EPOCH, 2**31).permutation(self._own_windows(self._window_split[0]))
            for chosen in _chunks(order, self.plan.size):
                starts, clip = (column[chosen] for column in self._windows)
                yield self._training_batch(starts, clip, np.zeros(len(chosen), np.int64))
            return
        yield from self._whole_clips(np.flatnonzero(self._is_own))

    def pseudo_label_batches(self) -> Iterator[ClipBatch]:
        """Yield the windows of all clips that are trained on, as at scoring, with domain and attributes."""
        if self.plan.draw == "every-window":
            raise InputError("a stage with pseudo-labels needs a batch plan that draws 'window-per-clip'")
        yield from self._whole_clips(np.flatnonzero(self._is_trained))

    def with_pseudo_labels(self, labels: NDArray[np.int64]) -> "JobData":
        """Return the same clips with a label for each clip of :meth:`pseudo_label_batches`."""
        n_clips = int(self._is_trained.sum())
        if labels.shape != (n_clips,):
            raise InputError(
                f"pseudo_labels returns labels of shape {labels.shape} for {n_clips} training clips; return "
                f"one label for each clip of the batches"
            )
        other = copy.copy(self)
        other._pseudo_labels = np.full(len(self._clips.clip_id), UNKNOWN, np.int64)
        other._pseudo_labels[self._is_trained] = labels
        return other

    def _whole_clips(self, chosen: NDArray[np.int64]) -> Iterator[ClipBatch]:
        """Yield all windows of some training clips, several clips a batch."""
        clips = self._clips
        spans = [(int(clips.start[c]), int(clips.stop[c])) for c in chosen]
        for group, length in self._by_rows(chosen, spans, clips.machine[chosen], clips.clip_id[chosen]):
            starts = np.concatenate([start for _, start in group])
            clip = np.concatenate([np.full(len(start), c) for c, start in group])
            batch = self._training_batch(starts, clip, np.zeros(len(clip), np.int64), length)
            chosen = np.array([c for c, _ in group])
            batch = self._with_tokens(batch, clips.machine[chosen], clips.clip_id[chosen])
            yield regrouped(batch, [len(start) for _, start in group])

    def validation_batches(self) -> Iterator[ClipBatch]:
        """Yield the windows that training steps leave out, as training batches."""
        for chosen in _chunks(self._window_split[1], self.plan.size):
            starts, clip = (column[chosen] for column in self._windows)
            yield self._training_batch(starts, clip, np.zeros(len(chosen), np.int64))

    def threshold_batches(self) -> Iterator[ClipBatch]:
        """Yield what a decision threshold is found from where there is no hold-out.

        ``every-window`` plans give batches of training and of validation windows, each as if it were one
        clip, as the released DCASE 2023 baseline does; ``window-per-clip`` plans give the training clips.
        """
        if self.plan.draw == "window-per-clip":
            yield from self.scoring_batches(self.training_ids)
            return
        training, validation = (self._own_windows(windows) for windows in self._window_split)
        for part in (stream(self.seed, _EPOCH, 2**31).permutation(training), validation):
            for chosen in _chunks(part, self.plan.size):
                starts, clip = (column[chosen] for column in self._windows)
                batch = self._training_batch(starts, clip, np.zeros(len(chosen), np.int64))
                unknown = replace(batch, domain=None, attributes=None, group=None, row_keys=None)
                yield regrouped(unknown, [len(chosen)])

    def _own_windows(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of some training windows that are of the job's machine type."""
        own: NDArray[np.int64] = windows[self._is_own[self._windows[1][windows]]]
        return own

    def _rows(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """First frame, clip and key of each row of the global batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        generator = stream(self.seed, _STEP, step)
        if self.plan.draw == "every-window":
            chosen = self._epoch_order(epoch)[place * self.plan.size : (place + 1) * self.plan.size]
            starts, clip = (column[chosen] for column in self._windows)
        else:
            clip = self._draw_clips(epoch, place, step, generator)
            clips = self._clips
            room = clips.stop[clip] - clips.start[clip] - self._window_frames
            starts = clips.start[clip] + generator.integers(0, room + 1)
        return starts, clip, self._with_intact_target(generator.integers(0, 2**62, len(clip)))

    def _with_intact_target(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the keys of a batch's rows; the key of the first target row draws the identity."""
        source_rows, target_rows, _ = self._row_counts
        names = self.plan.augmentations
        if target_rows and "identity" in names:
            keys[source_rows] += names.index("identity") - keys[source_rows] % len(names)
        return keys

    def _epoch_order(self, epoch: int) -> NDArray[np.int64]:
        if getattr(self, "_order_of", None) != epoch:
            self._order_of = epoch
            self._order = stream(self.seed, _EPOCH, epoch).permutation(self._window_split[0])
        return self._order

    def _draw_clips(
        self, epoch: int, place: int, step: int, generator: np.random.Generator
    ) -> NDArray[np.int64]:
        source_rows, target_rows, other_rows = self._row_counts
        clips = self._clips
        source = np.flatnonzero(self._is_trained & (clips.domain == 0))
        target = np.flatnonzero(self._is_trained & (clips.domain == 1))
        order = stream(self.seed, _EPOCH, epoch).permutation(source)
        drawn = [np.take(order, np.arange(place * source_rows, (place + 1) * source_rows), mode="wrap")]
        if target_rows:
            turn = np.arange(step * target_rows, (step + 1) * target_rows)
            drawn.append(np.take(stream(self.seed, _EPOCH).permutation(target), turn, mode="wrap"))
        if other_rows:
            others = np.flatnonzero(clips.machine >= len(self._trained_types))
            drawn.append(generator.choice(others, other_rows))
        if self.plan.supplemental_rows:
            supplement = np.flatnonzero(clips.supplemental)
            drawn.append(generator.choice(supplement, self.plan.supplemental_rows))
        return np.concatenate(drawn)

    def _training_batch(
        self,
        starts: NDArray[np.int64],
        clip: NDArray[np.int64],
        keys: NDArray[np.int64],
        length: int | None = None,
    ) -> ClipBatch:
        clips, labels = self._clips, self._pseudo_labels
        machine = clips.machine[clip]
        length = length or self._window_frames
        return ClipBatch(
            windows=self._gather(machine, starts, length),
            clip=torch.arange(len(clip)),
            n_clips=len(clip),
            machine=torch.from_numpy(machine),
            section=torch.from_numpy(clips.section[clip]),
            domain=torch.from_numpy(clips.domain[clip]),
            attributes=torch.from_numpy(clips.attributes[clip]),
            group=torch.from_numpy(clips.group[clip]),
            row_keys=torch.from_numpy(keys),
            supplemental=torch.from_numpy(clips.supplemental[clip]) if self.plan.supplemental_rows else None,
            pseudo_label=None if labels is None else torch.from_numpy(labels[clip]),
            **self._further_inputs(machine, clips.clip_id[clip], starts - clips.start[clip], length),
        )

    def _augmented(
        self,
        batch: ClipBatch,
        starts: NDArray[np.int64],
        clip: NDArray[np.int64],
        keys: NDArray[np.int64],
    ) -> ClipBatch:
        """Put every row through the transform that its key draws; one of the waveform changes both inputs."""
        clips, names = self._clips, self.plan.augmentations
        drawn = keys % len(names)
        transforms = [names[which] for which in drawn]
        rows = np.flatnonzero([name in ON_WAVEFORM for name in transforms])
        if len(rows):
            crops = augmented_crops(
                [
                    self._samples(self._waveforms, int(clips.machine[c]), int(clips.clip_id[c]))
                    for c in clip[rows]
                ],
                [
                    first_sample(int(start), self.input_spec.mel)
                    for start in (starts - clips.start[clip])[rows]
                ],
                crop_samples(self.input_spec.mel, self._window_frames),
                transforms=[transforms[row] for row in rows],
                keys=keys[rows].tolist(),
            )
            mels = (
                log_mel_of_padded(crops, self.input_spec.mel).half().float()
            )  # rounded as those that are stored
            places = torch.from_numpy(rows)
            batch.windows[places] = self._standardized(mels, clips.machine[clip[rows]], self._mels)
            if batch.waveform is not None:
                batch.waveform[places] = crops
        mask_windows(batch.windows, transforms=transforms, keys=keys.tolist())
        return replace(batch, augmentation=torch.from_numpy(drawn))

    # Scoring

    def scoring_batches(self, clip_ids: Sequence[int] | NDArray[np.int64]) -> Iterator[ClipBatch]:
        """Yield all windows of the given clips of the job's machine type, several clips a batch, in order."""
        spans = [self._mels.layouts[self._own].span(int(clip_id)) for clip_id in clip_ids]
        sections = {
            row[0]: row[1] for row in self.data.clips.select("clip_id", "section").iter_rows()
        }  # not part of what a name tells: the organizers give it for every clip
        index = {section: position for position, section in enumerate(self.facts.sections)}
        machines = np.full(len(spans), self._own)
        for group, length in self._by_rows(np.arange(len(spans)), spans, machines, clip_ids):
            starts = np.concatenate([start for _, start in group])
            section = [index.get(sections[int(clip_ids[c])], UNKNOWN) for c, start in group for _ in start]
            own = np.full(len(starts), self._own)
            ids = np.array([clip_ids[c] for c, start in group for _ in start])
            offsets = starts - np.array([spans[c][0] for c, start in group for _ in start])
            batch = ClipBatch(
                windows=self._gather(own, starts, length),
                clip=torch.empty(0),
                n_clips=0,
                machine=torch.from_numpy(own),
                section=torch.tensor(section),
                **self._further_inputs(own, ids, offsets, length),
            )
            batch = self._with_tokens(batch, own[: len(group)], [clip_ids[c] for c, _ in group])
            yield regrouped(batch, [len(start) for _, start in group])

    def _with_tokens(
        self, batch: ClipBatch, machine: NDArray[np.int64], clip_ids: Sequence[int] | NDArray[np.int64]
    ) -> ClipBatch:
        """Return a batch with the embeddings of its clips, if the system reads them."""
        if self.input_spec.encoder is None:
            return batch
        tokens = [self._encoded[which].tokens(int(c)) for which, c in zip(machine, clip_ids, strict=True)]
        if len({len(of_clip) for of_clip in tokens}) > 1:
            raise InputError(
                "the clips of a training step have embeddings of different lengths; read embeddings in "
                "fit_backend and components, or train on clips of equal length"
            )
        return replace(batch, encoded=torch.from_numpy(np.stack(tokens)).float())

    def _by_rows(
        self,
        clips: NDArray[np.int64],
        spans: Sequence[tuple[int, int]],
        machines: NDArray[np.int64],
        clip_ids: Sequence[int] | NDArray[np.int64],
    ) -> Iterator[tuple[list[tuple[int, NDArray[np.int64]]], int]]:
        """Yield batches of about ``SCORING_FRAMES`` frames: clips with their window starts, and the length.

        Parameters
        ----------
        clips : what stands for each clip
        spans : first and last frame of each clip
        machines, clip_ids : machine type and id of each clip
        """
        spec, tokens = self.input_spec, None
        if spec.encoder is not None:
            pairs = zip(machines, clip_ids, strict=True)
            tokens = [len(self._encoded[machine].clip(int(clip_id))) for machine, clip_id in pairs]
        lengths = [spec.window_frames or stop - start for start, stop in spans]
        grids = [
            start + window_starts(stop - start, length, spec.window_hop_frames)
            for (start, stop), length in zip(spans, lengths, strict=True)
        ]
        for group in grouped([len(starts) for starts in grids], lengths, tokens):
            in_group = zip(clips[group], grids[group], strict=True)
            yield [(int(clip), starts) for clip, starts in in_group], lengths[group.start]

    # Spectrograms

    @property
    def standardization(self) -> Standardization | None:
        """Statistics of the mel bins over the job's training clips, if the system wants z-scores."""
        return self._statistics(self._mels, self._own) if self.input_spec.standardize else None

    @property
    def feature_standardizations(self) -> dict[str, Standardization]:
        """The same for each further spectrogram; empty if the system wants no z-scores."""
        if not self.input_spec.standardize:
            return {}
        return {name: self._statistics(mels, self._own) for name, mels in self._features.items()}

    def _statistics(self, mels: MelFrames, machine: int) -> Standardization:
        """Return the statistics over the training clips of a machine type that is trained on."""
        if (mels, machine) not in self._standardizations:
            of_type = self._is_trained & (self._clips.machine == machine)
            ids = self._clips.clip_id[of_type]
            self._standardizations[mels, machine] = mels.statistics(machine, ids)
        return self._standardizations[mels, machine]

    @cached_property
    def _standardizations(self) -> dict[tuple[MelFrames, int], Standardization]:
        return {}

    def _gather(self, machine: NDArray[np.int64], starts: NDArray[np.int64], length: int) -> Tensor:
        """Return Float[Tensor, "row frame mel"] of the windows of ``length`` frames from ``starts``."""
        return self._standardized(self._mels.windows(machine, starts, length), machine, self._mels)

    def _standardized(self, windows: Tensor, machine: NDArray[np.int64], mels: MelFrames) -> Tensor:
        """Turn windows in dB into z-scores, in place, if the system wants them.

        Every machine type that is trained on has its own statistics; pseudo-anomalies get the job's.
        """
        if not self.input_spec.standardize:
            return windows
        of_rows = np.where(machine < len(self._trained_types), machine, self._own)
        for which in np.unique(of_rows):
            rows = torch.from_numpy(np.flatnonzero(of_rows == which))
            statistics = self._statistics(mels, int(which))
            if len(rows) == len(windows):
                statistics.apply_(windows)
            else:
                windows[rows] = statistics.apply_(windows[rows])
        return windows

    # What comes with the spectrogram

    def _further_inputs(
        self, machine: NDArray[np.int64], clip_id: NDArray[np.int64], frame: NDArray[np.int64], length: int
    ) -> dict[str, Any]:
        """Return the other inputs of windows of ``length`` frames that begin at ``frame`` of their clips."""
        spec, inputs = self.input_spec, dict[str, Any]()
        if spec.waveform:
            inputs["waveform"] = self._crops(self._waveforms, machine, clip_id, frame, length)
        if spec.second_channel:
            inputs["second_waveform"] = self._crops(self._second_waveforms, machine, clip_id, frame, length)
        features = {}
        for name, mels in self._features.items():
            pairs = zip(machine, clip_id, strict=True)
            first = np.array([mels.layouts[which].span(int(clip))[0] for which, clip in pairs])
            starts = first + feature_starts(frame, spec, mels.spec)
            windows = mels.windows(machine, starts, spec.frames_of(mels.spec, length))
            features[name] = self._standardized(windows, machine, mels)
        return inputs | {"features": features}

    def _samples(
        self, shards: Sequence[feature_store.Shard], machine: int, clip_id: int
    ) -> NDArray[np.int16]:
        """Return the samples of a clip, repeated end to end where it is shorter than a window."""
        return repeated(shards[machine].clip(clip_id), self.input_spec)

    def _crops(
        self,
        shards: Sequence[feature_store.Shard],
        machine: NDArray[np.int64],
        clip_id: NDArray[np.int64],
        frame: NDArray[np.int64],
        length: int,
    ) -> Tensor:
        """Return Float[Tensor, "row sample"] of the windows of ``length`` frames from ``frame`` on."""
        pairs = zip(machine, clip_id, strict=True)
        clips = [self._samples(shards, int(which), int(clip)) for which, clip in pairs]
        return crops(clips, frame, self.input_spec.mel, frames=length)


def _check(plan: BatchPlan, scope: Scope, input_spec: InputSpec) -> None:
    if plan.hold_out not in (True, False, "cross-fit"):
        raise InputError(f"a batch plan has hold_out={plan.hold_out!r}; give True, False or 'cross-fit'")
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
    own_rows = plan.size - plan.supplemental_rows
    other_rows = round(plan.pseudo_anomaly_share * own_rows)
    if plan.draw == "window-per-clip" and own_rows - other_rows - plan.target_rows < 1:
        raise InputError(
            f"batches of {plan.size} rows with {plan.target_rows} of target clips, {other_rows} of other "
            f"machine types and {plan.supplemental_rows} of supplemental clips have none left for source "
            f"clips; choose larger batches, or fewer rows of the others"
        )
    if plan.augmentations and (input_spec.features or input_spec.second_channel):
        raise InputError(
            "augmentations change windows and waveform alone; leave them out, or the further features and "
            "the second channel"
        )
    for name in plan.augmentations:
        if name not in TRANSFORMS:
            raise unknown_name("augmentation", name, TRANSFORMS)


def _joined(folds: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the ids in all folds, sorted."""
    return np.sort(np.concatenate([np.empty(0, np.int64), *folds]))


def _chunks(order: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]
