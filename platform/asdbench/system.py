"""The contract between a detection system and the platform.

A system is one file with one subclass of :class:`System`. It says what it needs (:class:`InputSpec`), how its
training batches are made up (:class:`BatchPlan`), what is optimized (:class:`Stage`), computes its losses in
``forward`` and its anomaly scores in ``components``. All else - reading, batching, the training loop,
distribution, checkpoints, hold-out, standardization, fusion, thresholds, metrics - is the platform's work.
A system that only joins others' scores (an ensemble) names its ``members`` and says how in ``combine``.

A system never sees a label, a file name or a path. At scoring it sees no domain and no attributes either.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from asdbench.spec import MelSpec

Scale = Literal["linear", "log"]
Precision = Literal["auto", "bfloat16", "float32"]

UNKNOWN = -1  # class index of an attribute value that is missing or was not seen in training


@dataclass(frozen=True)
class InputSpec:
    """What a system reads of each clip.

    Attributes
    ----------
    mel : log-mel spectrogram, by its parameters
    window_frames : length of the windows that a clip is cut into, in frames
    window_hop_frames : distance of window starts at scoring; the last window always ends with the clip
    standardize : z-score every mel bin with the mean and deviation over the job's training normals
    waveform : also give the samples that the window's frames are computed from
    """

    mel: MelSpec
    window_frames: int
    window_hop_frames: int
    standardize: bool = False
    waveform: bool = False


@dataclass(frozen=True)
class BatchPlan:
    """How the rows of a training batch are drawn. A row is one window.

    Attributes
    ----------
    size : rows of the global batch, whatever number of processes share it
    draw : ``"every-window"``: an epoch is one pass over all windows (hop 1) of the job's clips;
        ``"window-per-clip"``: an epoch is one pass over its source clips, a random window of each
    pseudo_anomaly_share : share of the rows drawn from other machine types' training normals
    target_rows : rows of each batch drawn round robin from target-domain clips (if the type has any)
    validation_share : share of the windows that is left out of training steps and kept for validation
    augmentations : names of transforms (``asdbench.features.augment.TRANSFORMS``); each row of a training
        step goes through one of them, drawn uniformly
    hold_out : keep the platform's hold-out of source normals out of training (False only to reproduce
        figures of systems that had none)
    """

    size: int
    draw: Literal["every-window", "window-per-clip"]
    pseudo_anomaly_share: float = 0.0
    target_rows: int = 0
    validation_share: float = 0.0
    augmentations: tuple[str, ...] = ()
    hold_out: bool = True


@dataclass(frozen=True)
class ClipBatch:
    """Windows of clips, and what a system may know of them. There is no label field.

    Attributes
    ----------
    windows : Float[Tensor, "row frame mel"], log-mel in dB (or z-scores, see ``InputSpec.standardize``)
    clip : Long[Tensor, "row"], the clip of each row, from 0 to ``clips - 1``
    clips : number of clips in the batch
    machine : Long[Tensor, "row"], 0 for the job's machine type, k for the k-th of the other types; rows of
        other types serve as pseudo-anomalies
    section : Long[Tensor, "row"], index into ``TrainingFacts.sections`` or ``UNKNOWN``
    domain : Long[Tensor, "row"], 0 source, 1 target; only in training
    attributes : Long[Tensor, "row column"], class index by column of ``TrainingFacts.attributes`` or ``UNKNOWN``;
        only in training
    row_keys : Long[Tensor, "row"], seeds for what is random in a row: equal for equal (seed, step, row)
        however the batch is spread over processes; only in training
    augmentation : Long[Tensor, "row"], index into ``BatchPlan.augmentations`` of the transform that the row
        went through; only in training steps of a plan that has some
    waveform : Float[Tensor, "row sample"], full scale 1, ``n_fft + hop · (frames − 1)`` samples: frame t of
        the window is computed from samples [hop·t, hop·t + n_fft); only if the system needs it
    """

    windows: Tensor
    clip: Tensor
    clips: int
    machine: Tensor
    section: Tensor
    domain: Tensor | None = None
    attributes: Tensor | None = None
    row_keys: Tensor | None = None
    augmentation: Tensor | None = None
    waveform: Tensor | None = None

    def mean_over_clips(self, values: Tensor) -> Tensor:
        """Return the means over clips, Float[Tensor, "clip ..."], of values Float[Tensor, "row ..."]."""
        rows = torch.bincount(self.clip, minlength=self.clips).to(values.dtype)
        sums = values.new_zeros(self.clips, *values.shape[1:]).index_add_(0, self.clip, values)
        return sums / rows.view(-1, *[1] * (values.dim() - 1))

    def pinned(self) -> "ClipBatch":
        """Return the batch in page-locked memory, from where a GPU takes it without waiting."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        pinned: dict[str, Any] = {name: value.pin_memory() for name, value in tensors.items()}
        return replace(self, **pinned)

    def to(self, device: torch.device) -> "ClipBatch":
        """Return the batch on ``device``."""
        if self.windows.device == device:
            return self
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class TrainingFacts:
    """What is known of a job's training clips before training; part of the model's description.

    Attributes
    ----------
    sections : sections of the machine type, sorted
    attributes : column name to its training values, sorted; columns with one value are left out, they
        carry no information
    """

    sections: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Mean:
    """A loss as a sum over ``count`` terms, so that the mean can be taken over all processes' rows."""

    sum: Tensor
    count: int | Tensor

    @classmethod
    def from_values(cls, values: Tensor, mask: Tensor | None = None) -> "Mean":
        """Return the mean of ``values`` (of those where ``mask`` is true) as sum and count."""
        if mask is None:
            return cls(values.sum(), values.numel())
        return cls((values * mask).sum(), mask.sum())


@dataclass(frozen=True)
class Losses:
    """Named parts of a loss; what is minimized is their weighted sum (weight 1 where none is given).

    ``monitors`` are recorded beside the parts and minimize nothing.
    """

    parts: Mapping[str, Mean]
    weights: Mapping[str, float] = field(default_factory=dict)
    monitors: Mapping[str, Mean] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """One optimizer step within a training step; ``forward`` is called with its name."""

    name: str
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    gradient_clip: float | None = None


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes
    ----------
    name : what the curve calls it
    updates : the optimizer steps that each training step consists of
    epochs, steps : its length, in one of the two
    precision : of matrix products: ``"auto"`` is bfloat16 where the hardware multiplies that faster
    plan : how batches are made up in this stage, if not as ``System.batch_plan`` says
    """

    name: str
    updates: Sequence[Update]
    epochs: int | None = None
    steps: int | None = None
    precision: Precision = "float32"
    plan: BatchPlan | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"stage {self.name!r} must give its length either in epochs or in steps")


@dataclass(frozen=True)
class Fusion:
    """How standardized components make up the anomaly score.

    Attributes
    ----------
    weights : weight of each component by name; ``None`` weighs all equally
    scale : ``"linear"`` adds the z-scores z that the hold-out normals give; ``"log"`` adds
        sign(z)·log(1 + |z|), which keeps the order within a component and lets none drown the others
    """

    weights: Mapping[str, float] | None = None
    scale: Scale = "linear"


def on_scale(scores: Tensor, scale: Scale) -> Tensor:
    """Return standardized scores on the scale that they are added on; see :class:`Fusion`."""
    return scores.sign() * scores.abs().log1p() if scale == "log" else scores


@dataclass(frozen=True)
class MemberScores:
    """What an ensemble sees of a member: anomaly scores, standardized on the hold-out normals.

    Attributes
    ----------
    score : Float[Tensor, "clip"], the member's fused anomaly score
    components : Float[Tensor, "clip"] by name, those of its components that its fusion uses
    """

    score: Tensor
    components: Mapping[str, Tensor]


class System(nn.Module):
    """A detection system for one machine type.

    Class attributes
    ----------------
    Config : frozen dataclass of settings, each declared with ``asdbench.config.tunable``
    citation : BibTeX of what the system implements
    presets : named sets of settings; none of them changes the architecture. ``report``: as published,
        ``fast``: a shorter training, for CPUs, ``demo``: quick on the embedded data
    training_of : name of the system whose trained model this one scores; ``None`` if it trains its own

    The constructor takes ``(config, facts)``; a system with ``training_of`` takes the trained system as
    a third argument and finds that system's settings in ``trained.config``. A system with ``members`` is
    never constructed.
    """

    Config: ClassVar[type]
    citation: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    training_of: ClassVar[str | None] = None

    @classmethod
    def members(cls, config: Any) -> tuple[str, ...]:
        """Return the names of the systems whose scores this one joins; none if it scores clips itself."""
        return ()

    @classmethod
    def combine(cls, config: Any, scores: "Mapping[str, MemberScores]") -> dict[str, Tensor]:
        """Return this system's components, each Float[Tensor, "clip"], from the scores of its members."""
        raise NotImplementedError(f"{cls.__name__} must define combine(cls, config, scores)")

    def __init__(self, config: Any, facts: TrainingFacts) -> None:
        super().__init__()
        self.config = config
        self.facts = facts

    @classmethod
    def input_spec(cls, config: Any) -> InputSpec:
        """Return what the system reads of each clip."""
        raise NotImplementedError(f"{cls.__name__} must define input_spec(cls, config)")

    @classmethod
    def batch_plan(cls, config: Any) -> BatchPlan:
        """Return how training batches are made up."""
        raise NotImplementedError(f"{cls.__name__} must define batch_plan(cls, config)")

    @classmethod
    def fusion(cls, config: Any) -> Fusion:
        """Return how the components make up the anomaly score; unless defined, their plain mean."""
        return Fusion()

    def stages(self, steps_per_epoch: int) -> Sequence[Stage]:
        """Return the stages of training, with optimizers over this module's parameters."""
        raise NotImplementedError(f"{type(self).__name__} must define stages(self, steps_per_epoch)")

    def forward(self, batch: ClipBatch, update: str, progress: float) -> Losses:
        """Return the losses of one update. All that is differentiated passes through here.

        ``progress`` runs from 0 at the first step of the stage towards 1 at its end.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, batch, update, progress)")

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        """Fit what is not trained by gradients, from one more pass over the training batches.

        Runs after training in evaluation mode without gradients. What it finds must be kept in buffers,
        so that it is part of ``state_dict()``.
        """

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return named anomaly scores, each Float[Tensor, "clip"], higher = more anomalous."""
        raise NotImplementedError(f"{type(self).__name__} must define components(self, batch)")
