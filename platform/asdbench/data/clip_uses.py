"""Which clips of a job are trained on, and which are held out.

Training clips come from the training split without the hold-out (that of every machine type where one
training is for all; of a cross-fitting, the fold that the training is to score), and a training clip whose
content is that of a test clip of the job's data set is rejected, whatever its source.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from asdbench.data.holdout import N_FOLDS, folds, hold_out, target_folds
from asdbench.data.random_streams import HOLD_OUT, stream
from asdbench.data.sets.catalog import DataSet
from asdbench.data.training_clips import (
    pseudo_anomaly_types,
    reject_leaks,
    supplemental_clips,
    trained_types,
    training_clips,
)
from asdbench.errors import InputError
from asdbench.system import BatchPlan, Scope


class ClipUses:
    """The clips of a job by use.

    Parameters
    ----------
    data, machine_type : the job's
    plan : of the batches: which clips it takes, and what it holds out
    scope : whether training draws from the job's machine type or from all types of ``data``
    seed : of the hold-out
    pseudo_anomaly_data : data set whose machine types serve as pseudo-anomalies (but for one of the same
        name); ``None`` for the other types of ``data``

    Attributes
    ----------
    trained_types : machine types that are trained on, sorted
    others : machine types that serve as pseudo-anomalies, each with its data set
    training : the training clips of each machine type that is trained on, those held out left out
    supplement : the supplemental clips of each of them, if the plan draws some
    training_ids, hold_out_ids, target_hold_out_ids, test_ids, n_folds, n_target_folds : see `JobData`

    Raises
    ------
    InputError
        Clips or other machine types are too few, or a training clip has the content of a test clip.
    """

    def __init__(
        self,
        data: DataSet,
        machine_type: str,
        plan: BatchPlan,
        scope: Scope,
        *,
        seed: int,
        pseudo_anomaly_data: DataSet | None,
    ) -> None:
        self._data, self._machine_type, self._plan, self._seed = data, machine_type, plan, seed
        self.others = (
            pseudo_anomaly_types(data, machine_type, pseudo_anomaly_data) if plan.pseudo_anomaly_share else []
        )
        self.trained_types = trained_types(data, machine_type, scope)
        splits = ("train", "supplemental") if plan.supplemental_rows else ("train",)
        reject_leaks(data, self.sources, splits=splits)
        self.supplement = supplemental_clips(data, self.trained_types) if plan.supplemental_rows else {}
        self._folds = {name: self._held_out(name) for name in self.trained_types}
        self._target_folds = {
            name: self._held_out_targets(name, of_type) for name, of_type in self._folds.items()
        }
        self.n_folds = max(map(len, self._folds.values())) if self._is_cross_fitted else 0
        self.hold_out_ids = _joined(self._folds[machine_type])
        self.target_hold_out_ids = _joined(self._target_folds[machine_type])
        self.n_target_folds = 0 if self._is_cross_fitted else len(self._target_folds[machine_type])
        self._train_without(None if self._is_cross_fitted else 0)
        tested = data.clips.filter((pl.col("machine_type") == machine_type) & (pl.col("split") == "test"))
        self.test_ids: NDArray[np.int64] = tested["clip_id"].sort().to_numpy()

    @property
    def own(self) -> int:
        """Index of the job's machine type among those that are trained on."""
        return self.trained_types.index(self._machine_type)

    @property
    def sources(self) -> list[tuple[DataSet, str]]:
        """The machine types that are trained on, then pseudo-anomalies, each with its data set."""
        return [*((self._data, name) for name in self.trained_types), *self.others]

    @property
    def training_ids(self) -> NDArray[np.int64]:
        """Ids of the training clips of the job's machine type, sorted."""
        return self.training[self._machine_type]["clip_id"].to_numpy()

    def without_fold(self, fold: int) -> "ClipUses":
        """Return the clips for a training that leaves out a fold; see `JobData.without_fold`."""
        other = copy.copy(self)
        other.hold_out_ids = _of_fold(self._folds, self._machine_type, fold)
        other.target_hold_out_ids = _of_fold(self._target_folds, self._machine_type, fold)
        other.n_folds = 0
        other._train_without(fold)
        return other

    def without_target_fold(self, fold: int) -> "ClipUses":
        """Return the clips for a fit that leaves out a fold; see `JobData.without_target_fold`."""
        left_out = self._target_folds[self._machine_type][fold]
        own = self.training[self._machine_type]
        recordings = own.filter(pl.col("clip_id").is_in(left_out.tolist()))["recording"].drop_nulls()
        is_left_out = pl.col("clip_id").is_in(left_out.tolist()) | (
            pl.col("recording").is_in(recordings.to_list()).fill_null(False)
        )
        other = copy.copy(self)
        other.hold_out_ids, other.target_hold_out_ids = np.empty(0, np.int64), left_out
        other.n_target_folds = 0
        other.training = {**self.training, self._machine_type: own.filter(~is_left_out)}
        return other

    @property
    def _is_cross_fitted(self) -> bool:
        return self._plan.hold_out == "cross-fit"

    def _held_out(self, machine_type: str) -> list[NDArray[np.int64]]:
        """Return the ids of the clips of a machine type that are held out, in folds; each type's by one draw.

        Without cross-fitting there is a single fold, or none. A type besides the job's own that has too few
        clips holds out nothing, since nothing of it can be scored; what is trained is the same for every job.
        """
        if not self._plan.hold_out:
            return []
        clips, generator = training_clips(self._data, machine_type), stream(self._seed, HOLD_OUT)
        try:
            if self._is_cross_fitted:
                return folds(clips, generator=generator)
            return [hold_out(clips, generator=generator)]
        except InputError as error:
            if machine_type != self._machine_type:
                return []
            raise InputError(
                f"machine type {machine_type!r} of data set {self._data.name!r}: {error}"
            ) from None

    def _held_out_targets(
        self, machine_type: str, source_folds: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.int64]]:
        """Return the ids of a machine type's target-domain clips in folds; no folds where there are none.

        Without cross-fitting only a fit can leave them out, which is of the job's own machine type.
        """
        clips = training_clips(self._data, machine_type)
        if self._is_cross_fitted:
            return target_folds(clips, source_folds)
        if not self._plan.hold_out or machine_type != self._machine_type:
            return []
        divided = target_folds(clips, [np.empty(0, np.int64)] * N_FOLDS)
        return [fold for fold in divided if len(fold)]

    def _train_without(self, fold: int | None) -> None:
        """Set the training clips: those that are not in this fold, which a machine type need not have."""
        self.training = {}
        for name in self._folds:
            left_out = [_of_fold(self._folds, name, fold)]
            if self._is_cross_fitted:
                left_out.append(_of_fold(self._target_folds, name, fold))
            is_left_out = pl.col("clip_id").is_in(_joined(left_out).tolist())
            self.training[name] = training_clips(self._data, name).filter(~is_left_out)


def _of_fold(
    folds: Mapping[str, Sequence[NDArray[np.int64]]], machine_type: str, fold: int | None
) -> NDArray[np.int64]:
    """Return the clips of a machine type in a fold, which it need not have."""
    of_type = folds[machine_type]
    return np.empty(0, np.int64) if fold is None or fold >= len(of_type) else of_type[fold]


def _joined(folds: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the ids in all folds, sorted."""
    return np.sort(np.concatenate([np.empty(0, np.int64), *folds]))
