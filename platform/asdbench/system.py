"""The contract between a detection system and the platform.

A system is one file with one subclass of :class:`System`. It declares its input (:class:`InputSpec`), the
composition of its training batches (:class:`BatchPlan`) and its optimizers (:class:`Stage`), computes its
losses in ``forward`` and its anomaly scores in ``components``. The platform does everything else: reading,
batching, the training loop, distribution, checkpoints, hold-out, standardization, fusion, thresholds and
metrics. An ensemble combines the scores of other systems: it names its ``members`` and defines ``combine``.

A system never sees a label, a file name or a path. At scoring it sees no domain and no attributes either.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Literal, get_args, get_origin

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from asdbench.errors import InputError
from asdbench.presets import Preset
from asdbench.spec import EncoderSpec, MelSpec

Scale = Literal["linear", "log"]
Pooling = Literal["mean", "max", "top-k", "relative-deviation"]
Scope = Literal["machine", "data set"]
HoldOut = bool | Literal["cross-fit"]
Precision = Literal["auto", "bfloat16", "float32"]
ConfigT = TypeVar("ConfigT", default=Any)
SystemT = TypeVar("SystemT", bound=nn.Module)

UNKNOWN = -1  # class index of an attribute value that is missing or did not occur in training
TOP_SHARE = 0.1  # share of a clip's windows that the pooling "top-k" takes the mean of
RELATIVE_DEVIATION_EXPONENT = 10.0  # of the weights; the paper's choice over all encoders


@dataclass(frozen=True)
class InputSpec:
    """The input that a system reads from each clip.

    Attributes
    ----------
    mel
        Parameters of the log-mel spectrogram.
    window_frames
        Length of the windows that a clip is cut into, in frames; ``None`` for whole clips: a row is a clip,
        and clips of equal numbers of frames share a batch. Training steps need windows.
    window_hop_frames
        Distance between window starts at scoring; the last window always ends with the clip.
    standardize
        Z-score every mel bin with the mean and deviation over the job's training normals.
    waveform
        Also provide the samples that the window's frames are computed from.
    encoder
        Also provide the embeddings of whole clips by a frozen pretrained encoder, which the platform computes
        once and stores.
    second_channel
        Also provide the samples of the far microphone of a stereo pair; all recordings must have one.
    features
        Parameters of further log-mel spectrograms of the same samples, by name.

    Examples
    --------
    >>> spec = InputSpec(MelSpec(n_mels=64), window_frames=64, window_hop_frames=32)
    >>> spec.mel.n_mels, spec.standardize
    (64, False)
    """

    mel: MelSpec
    window_frames: int | None
    window_hop_frames: int = 1
    standardize: bool = False
    waveform: bool = False
    encoder: EncoderSpec | None = None
    second_channel: bool = False
    features: Mapping[str, MelSpec] = field(default_factory=dict)

    @property
    def min_frames(self) -> int:
        """Frames that a clip has at least; a shorter one is repeated end to end until it fills them."""
        return self.window_frames or 1

    def frames_of(self, spec: MelSpec, frames: int) -> int:
        """Return how many frames of ``spec`` last as long as ``frames`` of ``mel``.

        Examples
        --------
        >>> InputSpec(MelSpec(hop_samples=512), 64).frames_of(MelSpec(hop_samples=256), 64)
        127
        """
        return 1 + (frames - 1) * self.mel.hop_samples // spec.hop_samples


@dataclass(frozen=True)
class BatchPlan:
    """The composition of a training batch. A row is one window.

    Attributes
    ----------
    size
        Rows of the global batch, regardless of how many processes share it.
    draw
        ``"every-window"``: an epoch is one pass over all windows (hop 1) of the job's clips;
        ``"window-per-clip"``: an epoch is one pass over its source clips, one random window per clip.
    pseudo_anomaly_share
        Share of the rows drawn from the training normals of other machine types.
    target_rows
        Rows of each batch drawn round robin from target-domain clips (if the machine type has any). The
        first of them is not transformed where the augmentations have ``"identity"``.
    supplemental_rows
        Rows of each batch drawn at random from supplemental clips: the machine alone, or noise alone.
    validation_share
        Share of the windows excluded from training steps and kept for validation.
    augmentations
        Names of transforms (``asdbench.features.augment.TRANSFORMS``); each row of a training step passes
        through one of them, drawn at random. A batch has as many rows of one as of another, to within one.
    hold_out
        ``True`` excludes the platform's hold-out of source normals from training. ``"cross-fit"`` excludes
        none: up to five further trainings and fits, each without a fold of the clips, score all of them.
        Right for a system without stages; a training takes about five times as long. ``False`` only to
        reproduce the figures of systems that had no hold-out.

    Examples
    --------
    >>> BatchPlan(size=32, draw="window-per-clip", pseudo_anomaly_share=0.5).target_rows
    0
    """

    size: int
    draw: Literal["every-window", "window-per-clip"]
    pseudo_anomaly_share: float = 0.0
    target_rows: int = 0
    supplemental_rows: int = 0
    validation_share: float = 0.0
    augmentations: tuple[str, ...] = ()
    hold_out: HoldOut = True


@dataclass(frozen=True)
class ClipBatch:
    """Windows of clips and everything that a system may know about them. There is no label field.

    Attributes
    ----------
    windows
        Float[Tensor, "row frame mel"], log-mel in dB (or z-scores, see ``InputSpec.standardize``).
    clip
        Long[Tensor, "row"], the clip of each row, from 0 to ``n_clips - 1``.
    n_clips
        Number of clips in the batch.
    machine
        Long[Tensor, "row"], 0 for the job's machine type, k for the k-th of the other types; rows of other
        types serve as pseudo-anomalies. With the scope ``"data set"``: index into
        ``TrainingFacts.machine_types``.
    section
        Long[Tensor, "row"], index into ``TrainingFacts.sections`` or ``UNKNOWN``.
    domain
        Long[Tensor, "row"], 0 source, 1 target; only in training.
    attributes
        Long[Tensor, "row column"], class index in each column of ``TrainingFacts.attributes`` or ``UNKNOWN``;
        only in training.
    group
        Long[Tensor, "row"], joint label of machine type, section, attributes and domain, from 0 to
        ``TrainingFacts.groups - 1``, or ``UNKNOWN`` for pseudo-anomalies; only in training.
    row_keys
        Long[Tensor, "row"], seeds for the random numbers of a row: equal for equal (seed, step, row),
        regardless of how the batch is spread over processes; only in training.
    augmentation
        Long[Tensor, "row"], index into ``BatchPlan.augmentations`` of the transform applied to the row; only
        in training steps of a plan that has augmentations.
    waveform
        Float[Tensor, "row sample"], full scale 1, ``n_fft + hop · (frames − 1)`` samples: frame t of the
        window is computed from samples [hop·t, hop·t + n_fft); only if ``InputSpec.waveform``.
    encoded
        Float[Tensor, "clip time band dim"], the encoder's tokens of each whole clip, however many rows it
        has; clips with other numbers of times are in other batches; only if ``InputSpec.encoder``.
    second_waveform
        Float[Tensor, "row sample"], the same of the far microphone; only if ``InputSpec.second_channel``.
    features
        Float[Tensor, "row frame mel"] by name, the further spectrograms of ``InputSpec.features``.
    supplemental
        Bool[Tensor, "row"], whether the row is of a supplemental clip, which has no group; only in training
        with ``BatchPlan.supplemental_rows``.
    pseudo_label
        Long[Tensor, "row"], what ``System.pseudo_labels`` has given the row's clip, or ``UNKNOWN`` for a clip
        that is not trained on; only in training steps of a stage with pseudo-labels.
    own_rows
        Number of the rows of clips that are trained on, which come first: those of the job's machine type, or
        with the scope ``"data set"`` of any. Pseudo-anomalies and then supplemental rows follow. It is the
        same in every whole batch of a process; only in training steps.
    """

    windows: Tensor
    clip: Tensor
    n_clips: int
    machine: Tensor
    section: Tensor
    domain: Tensor | None = None
    attributes: Tensor | None = None
    group: Tensor | None = None
    row_keys: Tensor | None = None
    augmentation: Tensor | None = None
    waveform: Tensor | None = None
    encoded: Tensor | None = None
    second_waveform: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    supplemental: Tensor | None = None
    pseudo_label: Tensor | None = None
    own_rows: int | None = None

    def mean_over_clips(self, values: Tensor) -> Tensor:
        """Return the mean over the rows of each clip, Float[Tensor, "clip ..."].

        Parameters
        ----------
        values : Float[Tensor, "row ..."]

        Examples
        --------
        >>> clip, zeros = torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.long)
        >>> batch = ClipBatch(torch.zeros(3, 64, 128), clip, n_clips=2, machine=zeros, section=zeros)
        >>> batch.mean_over_clips(torch.tensor([1.0, 3.0, 5.0]))
        tensor([2., 5.])
        """
        return _sums(values, self.clip, self.n_clips) / _like(self._rows_of_clip().to(values.dtype), values)

    def pool_over_clips(self, values: Tensor, pooling: Pooling) -> Tensor:
        """Return one value, or one vector, per clip from those of its rows, Float[Tensor, "clip ..."].

        Parameters
        ----------
        values : Float[Tensor, "row ..."]
        pooling
            ``"mean"``, ``"max"``, ``"top-k"`` (the mean of the highest tenth of the rows, at least of one)
            or ``"relative-deviation"``: a mean with weights (1 + d / max d)^10, where d is the distance of a
            row from the mean over its clip's rows (Wilkinghoff, Yadav, Tan, arXiv 2603.04605).

        Examples
        --------
        >>> clip, zeros = torch.tensor([0, 0, 0, 1]), torch.zeros(4, dtype=torch.long)
        >>> batch = ClipBatch(torch.zeros(4, 64, 128), clip, n_clips=2, machine=zeros, section=zeros)
        >>> batch.pool_over_clips(torch.tensor([1.0, 3.0, 8.0, 5.0]), "top-k")
        tensor([8., 5.])
        """
        if pooling == "mean":
            return self.mean_over_clips(values)
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling is {pooling!r}; give one of {', '.join(get_args(Pooling))}")
        if pooling == "max":
            return _maxima(values, self.clip, self.n_clips)
        return self._top_means(values) if pooling == "top-k" else self._weighted_means(values)

    def _rows_of_clip(self) -> Tensor:
        """Return the number of rows of each clip, Long["clip"]; `torch.bincount` would wait for a GPU."""
        return _sums(torch.ones_like(self.clip), self.clip, self.n_clips)

    def _top_means(self, values: Tensor) -> Tensor:
        """Return the mean of the highest rows of each clip, Float[Tensor, "clip ..."]."""
        rows = self._rows_of_clip()
        kept = (rows.double() * TOP_SHARE).round().long().clamp_min(1)
        ranked = values.sort(dim=0, descending=True)
        clip, order = self.clip[ranked.indices].sort(dim=0, stable=True)
        rank = _like(torch.arange(len(values), device=clip.device), clip) - (rows.cumsum(0) - rows)[clip]
        top = ranked.values.gather(0, order).where(rank < kept[clip], 0)
        sums = values.new_zeros(self.n_clips, *values.shape[1:]).scatter_add_(0, clip, top)
        return sums / _like(kept, values)

    def _weighted_means(self, values: Tensor) -> Tensor:
        """Return the mean of each clip's rows by their relative deviations, Float[Tensor, "clip ..."]."""
        apart = (values - self.mean_over_clips(values)[self.clip]).view(len(values), -1)
        distance = torch.linalg.vector_norm(apart, dim=1)
        largest = _maxima(distance, self.clip, self.n_clips).clamp(min=torch.finfo(values.dtype).tiny)
        weights = (1 + distance / largest[self.clip]) ** RELATIVE_DEVIATION_EXPONENT
        weights = weights / _sums(weights, self.clip, self.n_clips)[self.clip]
        return _sums(_like(weights, values) * values, self.clip, self.n_clips)

    def to(self, device: torch.device) -> "ClipBatch":
        """Return the batch on ``device``."""
        if self.windows.device == device:
            return self
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> "ClipBatch":
        mapped = {name: function(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        features = {name: function(value) for name, value in self.features.items()}
        return replace(self, features=features, **mapped)  # type: ignore[arg-type]


def _like(rows: Tensor, values: Tensor) -> Tensor:
    """Return Tensor["row"] with as many axes as the values, to go with them row by row."""
    return rows.view(-1, *[1] * (values.dim() - 1))


def _sums(values: Tensor, clip: Tensor, n_clips: int) -> Tensor:
    """Return the sum over the rows of each clip, Tensor["clip ..."]."""
    return values.new_zeros(n_clips, *values.shape[1:]).index_add_(0, clip, values)


def _maxima(values: Tensor, clip: Tensor, n_clips: int) -> Tensor:
    """Return the largest value over the rows of each clip, Float[Tensor, "clip ..."]."""
    least = values.new_full((n_clips, *values.shape[1:]), -torch.inf)
    return least.scatter_reduce_(0, _like(clip, values).expand_as(values), values, "amax")


def once_per_batch(method: Callable[[SystemT, ClipBatch], Tensor]) -> Callable[[SystemT, ClipBatch], Tensor]:
    """Decorate a method of a system that takes a batch, so that it runs once per batch at scoring.

    The result is kept with the batch and returned to every further call with it. While gradients are
    recorded, every call runs the method.

    Examples
    --------
    >>> class Mean(nn.Module):
    ...     @once_per_batch
    ...     def embed(self, batch: ClipBatch) -> Tensor:
    ...         print("computed")
    ...         return batch.windows.mean(dim=1)
    >>> zeros = torch.zeros(1, dtype=torch.long)
    >>> batch = ClipBatch(torch.ones(1, 64, 2), clip=zeros, n_clips=1, machine=zeros, section=zeros)
    >>> mean = Mean()
    >>> with torch.inference_mode():
    ...     mean.embed(batch) is mean.embed(batch)
    computed
    True
    """

    @functools.wraps(method)
    def wrapper(self: SystemT, batch: ClipBatch) -> Tensor:
        if torch.is_grad_enabled():
            return method(self, batch)
        results = vars(batch).setdefault("_results", {})
        key = (self, method)
        if key not in results:
            results[key] = method(self, batch)
        result: Tensor = results[key]
        return result

    return wrapper


def training_embeddings(
    batches: Iterable[ClipBatch], embed: Callable[[ClipBatch], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the embeddings of all rows of training batches, as back ends are fitted to them.

    Parameters
    ----------
    batches
        What ``System.fit_backend`` is given.
    embed
        Returns Float[Tensor, "row ..."] for a batch.

    Returns
    -------
    tuple
        Float[Tensor, "row ..."]; Bool[Tensor, "row"], true in the target domain; Long[Tensor, "row"], the
        clip of each row, numbered over all batches.

    Examples
    --------
    >>> clip, zeros = torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.long)
    >>> batch = ClipBatch(torch.ones(3, 64, 2), clip, 2, machine=zeros, section=zeros, domain=zeros)
    >>> training_embeddings([batch, batch], lambda batch: batch.windows.mean(dim=1))[2]
    tensor([0, 0, 1, 2, 2, 3])
    """
    embeddings, target, clip, n_clips = [], [], [], 0
    for batch in batches:
        assert batch.domain is not None  # these are training batches
        embeddings.append(embed(batch))
        target.append(batch.domain == 1)
        clip.append(batch.clip + n_clips)
        n_clips += batch.n_clips
    return torch.cat(embeddings), torch.cat(target), torch.cat(clip)


@dataclass(frozen=True)
class TrainingFacts:
    """Facts about a job's training clips that are known before training; part of the model's description.

    Attributes
    ----------
    sections
        Sections of the machine types, sorted.
    attributes
        Training values of each attribute column by its name, sorted; columns with a single value carry no
        information and are omitted.
    machine_types
        Machine types that are trained on, sorted: the job's, or with the scope ``"data set"`` all.
    groups
        Number of different joint labels of machine type, section, attributes and domain.
    """

    sections: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    machine_types: tuple[str, ...] = ()
    groups: int = 0


@dataclass(frozen=True)
class Mean:
    """A mean kept as the sum of ``count`` terms, so that it can be taken over the rows of all processes."""

    sum: Tensor
    count: int | Tensor

    @classmethod
    def from_values(cls, values: Tensor, mask: Tensor | None = None) -> "Mean":
        """Return the mean of ``values``, or of those where ``mask`` is true, as sum and count.

        Parameters
        ----------
        values : Float[Tensor, "..."]
        mask : Bool[Tensor, "..."] of the same shape

        Raises
        ------
        InputError
            The mask has another shape than the values.

        Examples
        --------
        >>> Mean.from_values(torch.tensor([1.0, 2.0, 6.0]))
        Mean(sum=tensor(9.), count=3)
        >>> Mean.from_values(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True])).count
        tensor(2)
        """
        if mask is None:
            return cls(values.sum(), values.numel())
        if mask.shape != values.shape:
            raise InputError(
                f"Mean.from_values got values of shape {tuple(values.shape)} and a mask of shape "
                f"{tuple(mask.shape)}; give both the same shape"
            )
        return cls((values * mask).sum(), mask.sum())


@dataclass(frozen=True)
class Losses:
    """Named parts of a loss. Training minimizes their weighted sum.

    Attributes
    ----------
    parts
        The terms of the loss by name.
    weights
        Weight of each part by name; 1 for parts that are not listed. A weight that changes with ``progress``
        is Float[Tensor, ""].
    monitors
        Further quantities to record, which do not contribute to the loss.
    """

    parts: Mapping[str, Mean]
    weights: Mapping[str, float | Tensor] = field(default_factory=dict)
    monitors: Mapping[str, Mean] = field(default_factory=dict)


@dataclass(frozen=True)
class Update:
    """One optimizer step within a training step; the platform passes its name to ``forward``."""

    name: str
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    gradient_clip: float | None = None


@dataclass(frozen=True)
class Stage:
    """A phase of training.

    Attributes
    ----------
    name
        Its name in the training curve.
    updates
        The optimizer steps of each training step.
    epochs, steps
        Its length; give exactly one of the two.
    precision
        Precision of matrix products; ``"auto"`` is bfloat16 where the hardware is faster with it.
    plan
        Composition of the batches of this stage (default: ``System.batch_plan``).
    pseudo_labels
        Call ``System.pseudo_labels`` before the first step; its labels are in this stage's batches.

    Examples
    --------
    >>> optimizer = torch.optim.Adam(nn.Linear(2, 1).parameters())
    >>> Stage("reconstruction", [Update("all", optimizer)], epochs=100).precision
    'float32'
    """

    name: str
    updates: Sequence[Update]
    epochs: int | None = None
    steps: int | None = None
    precision: Precision = "float32"
    plan: BatchPlan | None = None
    pseudo_labels: bool = False

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(
                f"stage {self.name!r} has epochs={self.epochs} and steps={self.steps}; give exactly one"
            )


@dataclass(frozen=True)
class Fusion:
    """The combination of standardized components into the anomaly score.

    Attributes
    ----------
    weights
        Weight of each component by name; ``None`` weights all equally.
    scale
        ``"linear"`` adds the z-scores z with respect to the hold-out normals; ``"log"`` adds
        sign(z)·log(1 + |z|), which preserves the order within a component and keeps any one from dominating.
    """

    weights: Mapping[str, float] | None = None
    scale: Scale = "linear"


def on_scale(scores: Tensor, scale: Scale) -> Tensor:
    """Return standardized scores on the scale on which they are added; see :class:`Fusion`.

    Examples
    --------
    >>> on_scale(torch.tensor([-1.0, 0.0, 1.0]), "log")
    tensor([-0.6931,  0.0000,  0.6931])
    """
    return scores.sign() * scores.abs().log1p() if scale == "log" else scores


@dataclass(frozen=True)
class MemberScores:
    """The anomaly scores of one member of an ensemble, standardized on the hold-out normals.

    Attributes
    ----------
    score
        Float[Tensor, "clip"], the member's fused anomaly score.
    components
        Float[Tensor, "clip"] by name, the components that the member's fusion uses.
    """

    score: Tensor
    components: Mapping[str, Tensor]


class System(nn.Module, Generic[ConfigT]):
    """A detection system for one machine type, or trained once for all machine types of a data set.

    ``class MySystem(System[Config])`` has the settings ``Config``, a frozen dataclass whose fields are
    declared with :func:`asdbench.tunable`.

    The constructor takes ``(config, facts)``. A system with ``training_of`` takes the trained system as
    a third argument and reads that system's settings from ``trained.config``. A system with ``members`` is
    never constructed.

    Attributes
    ----------
    Config
        The class of settings.
    citation
        BibTeX of the method.
    presets
        Named settings; they do not change the architecture. ``report``: as published, ``fast``: a shorter
        training, for CPUs, ``demo``: quick on the embedded data; any other name says what it does. Settings
        that were chosen with labels in sight are a :class:`Preset` with ``chosen_on``.
    training_of
        Name of the system whose trained model this one scores; ``None`` if it trains its own.
    scope
        ``"machine"``: one training for each machine type. ``"data set"``: one training for all machine types
        of the data set, whichever of them are asked for; the hold-out of each is kept out of it. Training
        rows of all types are ordinary rows, so there are no pseudo-anomalies. The back end is fitted and
        clips are scored for each machine type, with its own training clips.
    chosen_on
        Names of the data sets whose labels were looked at when the method or its defaults were chosen. Their
        leaderboards mark all of its rows.
    transductive
        Whether a clip's score may depend on the other test clips. By default each scoring checks that it does
        not; results of a system that declares it are marked.
    """

    Config: type[ConfigT]
    citation: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Preset | Mapping[str, object]]] = {}
    training_of: ClassVar[str | None] = None
    scope: ClassVar[Scope] = "machine"
    chosen_on: ClassVar[tuple[str, ...]] = ()
    transductive: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in vars(cls).get("__orig_bases__", ()):
            if get_origin(base) is System and "Config" not in vars(cls):
                cls.Config = get_args(base)[0]

    def __init__(self, config: ConfigT, facts: TrainingFacts) -> None:
        super().__init__()
        self.config = config
        self.facts = facts

    @classmethod
    def input_spec(cls, config: ConfigT) -> InputSpec:
        """Return the input that the system reads from each clip."""
        raise NotImplementedError(f"{cls.__name__} must define input_spec(cls, config)")

    @classmethod
    def batch_plan(cls, config: ConfigT) -> BatchPlan:
        """Return the composition of training batches."""
        raise NotImplementedError(f"{cls.__name__} must define batch_plan(cls, config)")

    @classmethod
    def fusion(cls, config: ConfigT) -> Fusion:
        """Return the combination of components into the anomaly score; by default their plain mean."""
        return Fusion()

    @classmethod
    def members(cls, config: ConfigT) -> tuple[str, ...]:
        """Return the members that an ensemble combines; none for a system that scores clips.

        A member is the name of a system, or a variant such as ``"multitask-mel@fast:steps=50:seed=1"``: with
        presets and settings over those of the run, and a number that is added to its seed.
        """
        return ()

    @classmethod
    def combine(cls, config: ConfigT, scores: Mapping[str, MemberScores]) -> dict[str, Tensor]:
        """Return the ensemble's components, each Float[Tensor, "clip"], from the scores of its members."""
        raise NotImplementedError(f"{cls.__name__} must define combine(cls, config, scores)")

    @classmethod
    def pretrained(cls, config: ConfigT) -> tuple[str, ...]:
        """Return the ids of the pretrained weights that the system itself reads; none by default.

        The platform checks that they are there before anything starts, and passes them to
        ``load_pretrained`` after the constructor. Weights of ``InputSpec.encoder`` need not be named.
        """
        return ()

    def load_pretrained(self, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Load the tensors of pretrained weights, by id and by their name in the file.

        Parameters that require no gradient after this call are frozen: they are not stored with the trained
        model, but loaded from the weights again.
        """
        raise NotImplementedError(f"{type(self).__name__} must define load_pretrained(self, weights)")

    def stages(self, steps_per_epoch: int) -> Sequence[Stage]:
        """Return the stages of training, with optimizers over this module's parameters."""
        raise NotImplementedError(f"{type(self).__name__} must define stages(self, steps_per_epoch)")

    def forward(self, batch: ClipBatch, update: str, progress: Tensor) -> Losses:
        """Return the losses of one update. Every differentiated computation must happen in this call.

        ``progress`` runs from 0 at the first step of the stage towards 1 at its end: Float[Tensor, ""] on the
        device of the batch. Compute with it as with any tensor; ``float(progress)`` would make a GPU wait.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, batch, update, progress)")

    def pseudo_labels(self, batches: Iterable[ClipBatch]) -> Tensor:
        """Return a label of each training clip, Long[Tensor, "clip"], in the order of the batches.

        Runs before a stage with ``pseudo_labels``, in evaluation mode and without gradients. The batches have
        all windows of the clips that are trained on, as at scoring.
        """
        raise NotImplementedError(f"{type(self).__name__} must define pseudo_labels(self, batches)")

    def fit_backend(self, batches: Iterable[ClipBatch]) -> None:
        """Fit the parts that are not trained by gradients, from one more pass over the training batches.

        Runs after training, in evaluation mode and without gradients. Keep the result in buffers, so that
        it is part of ``state_dict()``.
        """

    def window_components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return named anomaly scores of the windows, each Float[Tensor, "row"], higher = more anomalous.

        A system whose clip scores are its window scores, pooled by ``window_pooling``, defines this instead
        of ``components``. A detector can then show which part of a clip is anomalous.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define window_components(self, batch)")

    @classmethod
    def window_pooling(cls, config: ConfigT) -> Pooling:
        """Return how window scores become a clip's score; see :meth:`ClipBatch.pool_over_clips`."""
        return "mean"

    @classmethod
    def has_window_components(cls) -> bool:
        """Return whether the system defines ``window_components``."""
        return cls.window_components is not System.window_components

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Return named anomaly scores, each Float[Tensor, "clip"], higher = more anomalous.

        By default, ``window_components`` pooled over the windows of each clip.
        """
        if not self.has_window_components():
            raise NotImplementedError(f"{type(self).__name__} must define components(self, batch)")
        return self.pooled_over_windows(batch, self.window_components(batch))

    def pooled_over_windows(self, batch: ClipBatch, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the components of clips, each Float[Tensor, "clip"], from those of their windows."""
        pooling = self.window_pooling(self.config)
        return {name: batch.pool_over_clips(values, pooling) for name, values in rows.items()}

    def embeddings(self, batch: ClipBatch) -> Tensor | None:
        """Return the embedding of each clip, Float[Tensor, "clip dim"]; ``None`` if the system has none.

        Embeddings are stored with the scores of hold-out and test clips, for maps of the clips; they change
        no score. They are asked for with the same batch as ``components``: decorate what both compute with
        :func:`once_per_batch`, so that it is computed once.
        """
        return None
