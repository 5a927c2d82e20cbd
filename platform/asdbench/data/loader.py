"""Batches of stored spectrograms for training, validation and scoring.

They are made as they are stored (:class:`~asdbench.data.raw_batch.RawBatch`) and prepared where the system is
(:class:`~asdbench.data.preparation.BatchPreparation`). What is random is keyed by (seed, purpose, epoch or
step), never by process: batch ``step`` has the same rows for every number of processes that share it, and
each process takes every ``size``-th of them.

The loader keeps a system from data that it must not see: training rows come from the training split without
the hold-out (see :mod:`asdbench.data.clip_uses`), never from supplemental or test clips; scoring batches
carry neither domain nor attributes; nothing here knows a label or a path.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.data.clip_uses import ClipUses
from asdbench.data.clip_windows import MostFrames, Standardization
from asdbench.data.mel_frames import MelFrames
from asdbench.data.preparation import BatchPreparation
from asdbench.data.raw_batch import RawBatch
from asdbench.data.row_transforms import room_of, transform_inputs
from asdbench.data.sample_contexts import spans
from asdbench.data.sets.catalog import DataSet
from asdbench.data.stored_inputs import StoredInputs, WindowInputs
from asdbench.data.training_clips import (
    TrainingClips,
    all_training_clips,
    check_pairs,
    facts_of,
    group_indices,
)
from asdbench.data.training_rows import TrainingRows, check_plan, chunks
from asdbench.data.window_groups import WindowGroup, window_groups
from asdbench.errors import InputError
from asdbench.system import UNKNOWN, BatchPlan, ClipBatch, InputSpec, Scope

_OF_CLIPS = ("_clips", "_rows", "_standardizations", "preparation")  # what depends on the training clips
_OF_PLAN = ("_rows", "preparation")


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
        check_plan(plan, scope, input_spec)
        self.data, self.machine_type, self.input_spec, self.scope = data, machine_type, input_spec, scope
        self.plan, self.seed = plan, seed
        uses = ClipUses(
            data,
            machine_type,
            plan,
            scope,
            seed=seed if hold_out_seed is None else hold_out_seed,
            pseudo_anomaly_data=pseudo_anomaly_data,
        )
        if input_spec.second_channel:
            check_pairs(uses.sources)
        self._set_uses(uses)
        self._stored = StoredInputs(uses.sources, input_spec)
        self._groups = group_indices(uses.training)
        self.facts = facts_of(uses.training, groups=len(self._groups))
        self._pseudo_labels: NDArray[np.int64] | None = None

    def _set_uses(self, uses: ClipUses) -> None:
        self._uses = uses
        self.training_ids, self.test_ids = uses.training_ids, uses.test_ids
        self.hold_out_ids, self.target_hold_out_ids = uses.hold_out_ids, uses.target_hold_out_ids
        self.n_folds, self.n_target_folds = uses.n_folds, uses.n_target_folds

    def without_target_fold(self, fold: int) -> "JobData":
        """Return the clips for a fit that leaves out one of ``n_target_folds``, which is its hold-out.

        It leaves out the source clips of the same recordings, too.
        """
        other = self._copy(_OF_CLIPS)
        other._set_uses(self._uses.without_target_fold(fold))
        return other

    def without_fold(self, fold: int) -> "JobData":
        """Return the clips for a training that leaves out a fold, one of ``n_folds``, which is its hold-out.

        A machine type may have fewer folds; its hold-out is empty then. Facts are those of all clips, so that
        models have the same shape. What is known of the recordings is shared.
        """
        other = self._copy(_OF_CLIPS)
        other._set_uses(self._uses.without_fold(fold))
        return other

    def with_plan(self, plan: BatchPlan | None) -> "JobData":
        """Return the same clips drawn by another plan, which differs in the make-up of batches alone."""
        if plan is None or plan == self.plan:
            return self
        check_plan(plan, self.scope, self.input_spec)
        same = replace(plan, hold_out=self.plan.hold_out, validation_share=self.plan.validation_share)
        lacks_clips = (plan.pseudo_anomaly_share and not self._uses.others) or (
            plan.supplemental_rows and not self._uses.supplement
        )
        if plan != same or plan.draw != self.plan.draw or lacks_clips:
            raise InputError(
                "a stage's batch plan may differ in size, shares, target rows and augmentations only, and "
                "may draw pseudo-anomalies and supplemental rows only if System.batch_plan does"
            )
        other = self._copy(_OF_PLAN)
        other.plan = plan
        return other

    def with_pseudo_labels(self, labels: NDArray[np.int64]) -> "JobData":
        """Return the same clips with a label for each clip of :meth:`pseudo_label_batches`."""
        n_clips = int(self._rows.is_trained.sum())
        if labels.shape != (n_clips,):
            raise InputError(
                f"pseudo_labels returns labels of shape {labels.shape} for {n_clips} training clips; return "
                f"one label for each clip of the batches"
            )
        other = self._copy(())
        other._pseudo_labels = np.full(len(self._clips.clip_id), UNKNOWN, np.int64)
        other._pseudo_labels[self._rows.is_trained] = labels
        return other

    def _copy(self, without: Sequence[str]) -> "JobData":
        """Return a copy that shares what is known of recordings, but for these cached properties."""
        other = copy.copy(self)
        for name in without:
            vars(other).pop(name, None)
        return other

    @cached_property
    def _clips(self) -> TrainingClips:
        uses = self._uses
        return all_training_clips(
            uses.training, uses.supplement, uses.others, self._stored.mels.layouts, self.facts, self._groups
        )

    @cached_property
    def _rows(self) -> TrainingRows:
        return TrainingRows(
            self._clips,
            self.plan,
            self.seed,
            own=self._uses.own,
            trained_types=len(self._uses.trained_types),
            window_frames=self.input_spec.window_frames,
        )

    # Training

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch."""
        return self._rows.steps_per_epoch

    def raw_batch(self, step: int, *, rank: int = 0, size: int = 1) -> RawBatch:
        """Return the rows of training step ``step`` that fall to process ``rank`` of ``size``, as stored."""
        rows = self._rows.of_step(step).of_process(rank, size)
        machine, clip_id = self._clips.machine[rows.clip], self._clips.clip_id[rows.clip]
        if self.plan.augmentations:
            frame = rows.starts - self._clips.start[rows.clip]
            names, mel = self.plan.augmentations, self.input_spec.mel
            inputs: WindowInputs = transform_inputs(
                self._stored,
                rows,
                *(machine, clip_id, frame, names, mel),
                length=self._rows.window_frames,
                room=room_of(names, self.plan.size, size),
            )
        else:
            inputs = self._windows(rows.clip, rows.starts, self._rows.window_frames)
        return self._training_batch(
            rows.clip,
            inputs,
            own_rows=rows.own,
            row_keys=rows.keys,
            augmentation=rows.transforms,
            encoded=self._stored.tokens(machine, clip_id),
        )

    def batch(self, step: int, *, rank: int = 0, size: int = 1) -> ClipBatch:
        """Return the rows of training step ``step`` that fall to process ``rank`` of ``size``, on the CPU."""
        return self._prepared(self.raw_batch(step, rank=rank, size=size))

    def backend_batches(self) -> Iterator[ClipBatch]:
        """Yield one more pass over the training clips of the job's machine type, as if training continued.

        ``every-window`` plans give the batches of one more epoch; ``window-per-clip`` plans give each
        clip's windows as at scoring, with domain and attributes.
        """
        yield from map(self._prepared, self.raw_backend_batches())

    def raw_backend_batches(self, most: MostFrames | None = None) -> Iterator[RawBatch]:
        """Yield the batches of `backend_batches` as they are stored; ``most`` as in `raw_scoring_batches`."""
        if self.plan.draw == "every-window":
            yield from self._window_batches(self._rows.back_end_order())
        else:
            yield from self._whole_clips(np.flatnonzero(self._rows.is_own), most)

    def pseudo_label_batches(self) -> Iterator[ClipBatch]:
        """Yield the windows of all clips that are trained on, as at scoring, with domain and attributes."""
        yield from map(self._prepared, self.raw_pseudo_label_batches())

    def raw_pseudo_label_batches(self, most: MostFrames | None = None) -> Iterator[RawBatch]:
        """Yield those of `pseudo_label_batches` as they are stored; ``most`` as in `raw_scoring_batches`."""
        if self.plan.draw == "every-window":
            raise InputError("a stage with pseudo-labels needs a batch plan that draws 'window-per-clip'")
        yield from self._whole_clips(np.flatnonzero(self._rows.is_trained), most)

    def validation_batches(self) -> Iterator[ClipBatch]:
        """Yield the windows that training steps leave out, as training batches."""
        yield from map(self._prepared, self._window_batches(self._rows.window_split[1]))

    def threshold_batches(self) -> Iterator[ClipBatch]:
        """Yield what a decision threshold is found from where there is no hold-out.

        ``every-window`` plans give batches of training and of validation windows, each as if it were one
        clip, as the released DCASE 2023 baseline does; ``window-per-clip`` plans give the training clips.
        """
        yield from map(self._prepared, self.raw_threshold_batches())

    def raw_threshold_batches(self, most: MostFrames | None = None) -> Iterator[RawBatch]:
        """Yield those of `threshold_batches` as they are stored; ``most`` as in `raw_scoring_batches`."""
        if self.plan.draw == "window-per-clip":
            yield from self.raw_scoring_batches(self.training_ids, most)
            return
        validation = self._rows.own_windows(self._rows.window_split[1])
        for part in (self._rows.back_end_order(), validation):
            for raw in self._window_batches(part):
                unknown = replace(raw, domain=None, attributes=None, group=None, row_keys=None)
                yield replace(unknown, clip=torch.zeros_like(raw.clip), n_clips=1)

    def _window_batches(self, windows: NDArray[np.int64]) -> Iterator[RawBatch]:
        """Yield batches of training windows, in order, of an ``every-window`` plan."""
        for chosen in chunks(windows, self.plan.size):
            starts, clip = (column[chosen] for column in self._rows.windows)
            yield self._training_batch(clip, self._windows(clip, starts, self._rows.window_frames))

    def _whole_clips(self, chosen: NDArray[np.int64], most: MostFrames | None) -> Iterator[RawBatch]:
        """Yield all windows of some training clips, several clips a batch."""
        clips = self._clips
        machine, ids = clips.machine[chosen], clips.clip_id[chosen]
        for group in self._grouped(clips.start[chosen], clips.stop[chosen], machine, ids, most):
            rows = group.by_row(chosen)
            batch = self._training_batch(rows, self._windows(rows, group.starts, group.length))
            tokens = self._stored.tokens(machine[group.clips], ids[group.clips])
            yield replace(batch, clip=group.clip, n_clips=len(group.rows_of_clip), encoded=tokens)

    def _windows(self, clip: NDArray[np.int64], starts: NDArray[np.int64], length: int) -> WindowInputs:
        """Return what is stored of windows of training clips."""
        return self._stored.windows(self._clips.machine[clip], self._clips.clip_id[clip], starts, length)

    def _training_batch(
        self,
        clip: NDArray[np.int64],
        inputs: WindowInputs,
        *,
        row_keys: Tensor | None = None,
        own_rows: int | None = None,
        augmentation: Tensor | None = None,
        encoded: Tensor | None = None,
    ) -> RawBatch:
        """Return windows of training clips with what is known of the clips."""
        clips, labels = self._clips, self._pseudo_labels
        return RawBatch(
            clip=torch.arange(len(clip)),
            n_clips=len(clip),
            machine=torch.from_numpy(clips.machine[clip]),
            section=torch.from_numpy(clips.section[clip]),
            domain=torch.from_numpy(clips.domain[clip]),
            attributes=torch.from_numpy(clips.attributes[clip]),
            group=torch.from_numpy(clips.group[clip]),
            row_keys=torch.zeros(len(clip), dtype=torch.long) if row_keys is None else row_keys,
            own_rows=own_rows,
            augmentation=augmentation,
            encoded=encoded,
            supplemental=torch.from_numpy(clips.supplemental[clip]) if self.plan.supplemental_rows else None,
            pseudo_label=None if labels is None else torch.from_numpy(labels[clip]),
            **inputs,
        )

    # Scoring

    def scoring_batches(self, clip_ids: Sequence[int] | NDArray[np.int64]) -> Iterator[ClipBatch]:
        """Yield all windows of the given clips of the job's machine type, several clips a batch, in order."""
        yield from map(self._prepared, self.raw_scoring_batches(clip_ids))

    def raw_scoring_batches(
        self, clip_ids: Sequence[int] | NDArray[np.int64], most: MostFrames | None = None
    ) -> Iterator[RawBatch]:
        """Yield the batches of `scoring_batches` as they are stored.

        ``most`` says how many frames the next one may have; without it, they are those of a CPU.
        """
        ids = np.asarray(clip_ids, np.int64)
        machine = np.full(len(ids), self._uses.own)
        section = self._sections(ids)
        ends = spans(self._stored.mels.layouts[self._uses.own], ids)
        for group in self._grouped(*ends, machine, ids, most):
            own = group.by_row(machine)
            yield RawBatch(
                clip=group.clip,
                n_clips=len(group.rows_of_clip),
                machine=torch.from_numpy(own),
                section=torch.from_numpy(group.by_row(section)),
                encoded=self._stored.tokens(machine[group.clips], ids[group.clips]),
                **self._stored.windows(own, group.by_row(ids), group.starts, group.length),
            )

    def scoring_share(
        self, clip_ids: Sequence[int] | NDArray[np.int64], rank: int, size: int
    ) -> NDArray[np.int64]:
        """Return the neighboring clips that process ``rank`` of ``size`` scores; none if there are few.

        Shares end where batches end, so that a clip is scored with the same others as by one process.
        """
        ids = np.asarray(clip_ids, np.int64)
        machine = np.full(len(ids), self._uses.own)
        ends = spans(self._stored.mels.layouts[self._uses.own], ids)
        batches = [group.clips for group in self._grouped(*ends, machine, ids, None)]
        own = batches[rank * len(batches) // size : (rank + 1) * len(batches) // size]
        return ids[own[0].start : own[-1].stop] if own else ids[:0]

    def _sections(self, clip_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the section of each clip as an index into the facts.

        It is not part of what a name tells: the organizers give it for every clip.
        """
        index = {section: position for position, section in enumerate(self.facts.sections)}
        sections = dict(self.data.clips.select("clip_id", "section").iter_rows())
        return np.array([index.get(sections[clip_id], UNKNOWN) for clip_id in clip_ids.tolist()], np.int64)

    def _grouped(
        self,
        start: NDArray[np.int64],
        stop: NDArray[np.int64],
        machine: NDArray[np.int64],
        clip_id: NDArray[np.int64],
        most: MostFrames | None,
    ) -> Iterator[WindowGroup]:
        return window_groups(start, stop, self.input_spec, self._stored.token_times(machine, clip_id), most)

    # Preparation

    @cached_property
    def preparation(self) -> BatchPreparation:
        """What turns raw batches into those that the system reads; a copy of it for each device."""
        features = {name: self._by_machine(mels) for name, mels in self._stored.features.items()}
        if not self.input_spec.standardize:
            return BatchPreparation(self.input_spec.mel)
        return BatchPreparation(self.input_spec.mel, self._by_machine(self._stored.mels), features)

    def _prepared(self, raw: RawBatch) -> ClipBatch:
        batch: ClipBatch = self.preparation(raw)
        return batch

    @property
    def standardization(self) -> Standardization | None:
        """Statistics of the mel bins over the job's training clips, if the system wants z-scores."""
        return self._statistics(self._stored.mels, self._uses.own) if self.input_spec.standardize else None

    @property
    def feature_standardizations(self) -> dict[str, Standardization]:
        """The same for each further spectrogram; empty if the system wants no z-scores."""
        if not self.input_spec.standardize:
            return {}
        features = self._stored.features.items()
        return {name: self._statistics(mels, self._uses.own) for name, mels in features}

    def _by_machine(self, mels: MelFrames) -> Standardization:
        """Return the statistics for each machine type that batches have rows of, in order.

        Every machine type that is trained on has its own statistics; pseudo-anomalies get the job's.
        """
        machines = range(len(self._uses.trained_types))
        return Standardization.stacked([self._statistics(mels, machine) for machine in machines])

    def _statistics(self, mels: MelFrames, machine: int) -> Standardization:
        """Return the statistics over the training clips of a machine type that is trained on."""
        if (mels, machine) not in self._standardizations:
            of_type = self._rows.is_trained & (self._clips.machine == machine)
            ids = self._clips.clip_id[of_type]
            self._standardizations[mels, machine] = mels.statistics(machine, ids)
        return self._standardizations[mels, machine]

    @cached_property
    def _standardizations(self) -> dict[tuple[MelFrames, int], Standardization]:
        return {}
