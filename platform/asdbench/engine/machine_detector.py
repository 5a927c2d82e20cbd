"""The detector of one machine type: models, fusion and threshold, as an export holds them.

Window scores exist where the system's clip score is pooled from its windows' scores
(:meth:`asdbench.system.System.window_components`). They are fused as clips are, so that on a linear scale
the mean of window scores is the score of a clip whose system takes means. An ensemble has none, as its
members' windows differ.
"""

import io
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench import registry
from asdbench.data.audio import ChannelPolicy, SignalCheck
from asdbench.data.clip_windows import Standardization, scoring_batches, window_starts
from asdbench.data.embeddings import clip_encoder
from asdbench.data.sets.recording_notes import FAULTS
from asdbench.engine.clip_stream import ClipLength, cut_stream
from asdbench.engine.detection import Array, Detection, WindowScores
from asdbench.engine.export_record import (
    CURE,
    ExportedModel,
    ExportRecord,
    MachineRecord,
    read_tensors_file,
)
from asdbench.engine.pretrained import check_exported, code_of
from asdbench.engine.state import rebuilt
from asdbench.engine.system_output import checked_components
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace
from asdbench.spec import SAMPLE_RATE_HZ
from asdbench.system import UNKNOWN, ClipBatch, MemberScores, System, TrainingFacts

Clip = NDArray[np.int16]

LONG_RECORDING = 1.5  # longer than this many times the longest training clip: cut into clips
_SAME_SCORE = 1e-3  # relative: what rounding may change in a probe's score

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectorScores:
    """Scores of several clips.

    Attributes
    ----------
    score : Float[ndarray, "clip"]
    components : the same by name, before standardization
    windows : Float[ndarray, "window"] of each clip, where the system has window scores
    """

    score: Array
    components: dict[str, Array]
    windows: list[Array] | None


class Model:
    """A trained and fitted system that scores clips of one machine type.

    Pretrained weights are read from the data home of ``workspace``; :class:`InputError` if they are missing
    there, or are others than those of the export.
    """

    def __init__(
        self, record: ExportedModel, tensors: Mapping[str, Any], machine_type: str, workspace: Workspace
    ) -> None:
        self.record = record
        self.configured = registry.configure(record.system, record.settings)
        check_exported(record.weights, self.configured, workspace)
        types = record.machine_types
        self.machine = types.index(machine_type) if machine_type in types else 0
        self.facts = TrainingFacts(record.sections, record.attributes, types, record.groups)
        self.system: System = rebuilt(
            self.configured, self.facts, tensors["trained"], tensors["backend"], workspace=workspace
        )
        self.input_spec = self.configured.input_spec
        spec = self.input_spec.encoder
        self._encode = None if spec is None else clip_encoder(workspace, spec).encode_clip
        statistics = tensors["standardization"]
        self.standardization = Standardization(*statistics) if statistics is not None else None
        further = tensors.get("feature_standardizations", {})
        self.feature_standardizations = {name: Standardization(*each) for name, each in further.items()}

    @property
    def hears_far_microphone(self) -> bool:
        """Whether the system reads the far microphone of a two-channel recording, too."""
        encoder = self.input_spec.encoder
        subtracts = encoder is not None and encoder.far_microphone == "subtract"
        return self.input_spec.second_channel or subtracts

    def scores(
        self, clips: Sequence[Clip], section: str | None, *, far: Sequence[Clip] | None = None
    ) -> DetectorScores:
        """Return the scores of clips, with the samples of their far microphones if the system reads them."""
        names = self.facts.sections
        known = section if section is not None else self.record.section
        index = names.index(known) if known in names else UNKNOWN
        parts: dict[str, list[Tensor]] = {}
        windows: list[Array] = []
        with torch.inference_mode():
            batches = scoring_batches(
                clips,
                self.input_spec,
                self.standardization,
                section=index,
                machine=self.machine,
                encode=self._encode,
                far=far,
                feature_standardizations=self.feature_standardizations,
            )
            for batch in batches:
                components, of_windows = self._components(batch)
                checked = checked_components(self.system, "components", components, batch.n_clips)
                for name, values in checked.items():
                    parts.setdefault(name, []).append(values)
                windows += of_windows
        arrays = {name: torch.cat(values).numpy() for name, values in parts.items()}
        return DetectorScores(self.record.fusion.score(arrays), arrays, windows or None)

    def _components(self, batch: ClipBatch) -> tuple[dict[str, Tensor], list[Array]]:
        """Return the components of the clips of a batch, and the fused scores of their windows."""
        if not self.system.has_window_components():
            return self.system.components(batch), []
        rows = self.system.window_components(batch)
        fused = self.record.fusion.score({name: values.double().numpy() for name, values in rows.items()})
        ends = np.cumsum(np.bincount(batch.clip.numpy(), minlength=batch.n_clips))
        return self.system.pooled_over_windows(batch, rows), np.split(fused, ends[:-1])


class MachineDetector:
    """The detector of one machine type of an export; get it from :meth:`Detector.machine`."""

    def __init__(
        self,
        machine_type: str,
        record: MachineRecord,
        export: ExportRecord,
        tensors: Mapping[str, Any],
        *,
        workspace: Workspace,
    ) -> None:
        self.machine_type, self.record, self.export = machine_type, record, export
        pairs = zip(record.models, tensors["models"], strict=True)
        self.models = [Model(*pair, machine_type, workspace) for pair in pairs]
        self.normal_level_db: Tensor = tensors["normal_level_db"]

    @classmethod
    def from_folder(
        cls, machine_type: str, export: ExportRecord, folder: Path, *, workspace: Workspace
    ) -> "MachineDetector":
        """Read a machine type's tensors, and check that the installed code scores as that of the export."""
        record = export.machines[machine_type]
        content = read_tensors_file(folder, record)
        try:
            tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            detector = cls(machine_type, record, export, tensors, workspace=workspace)
        except InputError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise InputError(
                f"the tensors in {folder / record.file} do not fit {export.system} ({reason}); {CURE}"
            ) from error
        detector._check_code()
        return detector

    def length(self, window_s: float | None = None, hop_s: float | None = None) -> ClipLength:
        """Return how long recordings are cut: by default into usual clips that overlap by half."""
        clip_s = self.record.clips.median_s if window_s is None else window_s
        return ClipLength(clip_s, clip_s / 2 if hop_s is None else hop_s)

    @property
    def channels(self) -> ChannelPolicy:
        """The policy by which channels are kept: that of the data set, or both if a far one is read, too."""
        return "both" if self._hears_far_microphone else self.export.data.channels

    @property
    def _hears_far_microphone(self) -> bool:
        return any(model.hears_far_microphone for model in self.models)

    @property
    def longest_s(self) -> float:
        """The longest duration that is scored as one clip: a little more than the longest training clip."""
        return LONG_RECORDING * self.record.clips.longest_s

    def threshold(self, threshold: str | float | None = None) -> float | None:
        """Return a threshold: of a method by name, a number itself, or of the method chosen at the export.

        It is ``None`` where the method had too few normal clips (see :meth:`shortfall`).

        Raises
        ------
        InputError
            A number that is not finite, no such method, or neither a number nor a name.
        """
        method = self.export.threshold_method if threshold is None else threshold
        if isinstance(method, Real) and not isinstance(method, bool) and math.isfinite(method):
            return float(method)
        if not isinstance(method, str):
            raise InputError(
                f"the threshold {method!r} is not a finite number; give one, or a method: "
                f"{', '.join(self.record.thresholds)}"
            )
        if method not in self.record.thresholds:
            raise unknown_name("threshold method", method, self.record.thresholds)
        return self.record.thresholds[method].threshold

    def shortfall(self, threshold: str | float | None = None) -> str | None:
        """Return why :meth:`threshold` is ``None``, for people; ``None`` where it is a number."""
        if self.threshold(threshold) is not None:
            return None
        method = self.export.threshold_method if threshold is None else threshold
        return self.record.thresholds[str(method)].shortfall

    def scores(self, clips: Sequence[Clip], *, section: str | None = None) -> DetectorScores:
        """Return the scores of clips of 16-bit samples at 16 kHz, at least one.

        Where two channels are kept, the far one comes after the near one; see `channels`.
        """
        far = None
        if self._hears_far_microphone:
            clips, far = zip(*(np.split(clip[: len(clip) // 2 * 2], 2) for clip in clips), strict=True)
        each = [model.scores(clips, section, far=far) for model in self.models]
        if self.record.fusion is None:
            return each[0]
        ensemble = self._ensemble
        members = {
            member.member_name: MemberScores(
                torch.from_numpy(model.record.normalization.apply(scores.score)),
                {
                    name: torch.from_numpy(values)
                    for name, values in model.record.fusion.standardized(scores.components).items()
                },
            )
            for member, model, scores in zip(ensemble.members, self.models, each, strict=True)
        }
        combined = ensemble.system.combine(ensemble.config, members)
        checked = checked_components(ensemble.system, "combine", combined, len(clips))
        components = {name: values.numpy() for name, values in checked.items()}
        return DetectorScores(self.record.fusion.score(components), components, None)

    def detect(
        self,
        clip: Clip,
        *,
        start_s: float = 0.0,
        channels: int = 1,
        threshold: str | float | None = None,
        section: str | None = None,
    ) -> Detection:
        """Return the result for a clip of 16-bit samples at 16 kHz.

        Parameters
        ----------
        clip : samples; of several kept channels, one after the other
        start_s : the clip's place in its recording
        channels : number of channels that were kept; window scores exist for one only
        threshold, section : as for :meth:`Detector.score`
        """
        if self._hears_far_microphone and channels != 2:
            raise InputError(
                f"a recording of {self.machine_type} has {channels} channel, and {self.export.system} "
                f"reads the far microphone; give recordings with the near and the far one"
            )
        scores = self.scores([clip], section=section)
        windows = None
        if scores.windows is not None and channels == 1:
            windows = self._window_scores(scores.windows[0], len(clip), start_s)
        return Detection(
            self.machine_type,
            start_s,
            start_s + len(clip) / channels / SAMPLE_RATE_HZ,
            float(scores.score[0]),
            self.threshold(threshold),
            {name: float(values[0]) for name, values in scores.components.items()},
            windows,
            (*self._notes(clip, channels), *_given(self.shortfall(threshold))),
        )

    def stream(
        self,
        blocks: Iterable[NDArray[np.float32]],
        sample_rate_hz: int,
        length: ClipLength | None = None,
        *,
        threshold: str | float | None = None,
        section: str | None = None,
    ) -> Iterator[Detection]:
        """Yield the results of overlapping clips of a stream, as :meth:`Detector.stream` does.

        Parameters
        ----------
        blocks : Float32[ndarray, "sample channel"]
        sample_rate_hz : of the blocks
        length : how the stream is cut (default: :meth:`length`)
        threshold, section : as for :meth:`Detector.score`
        """
        for clip in cut_stream(blocks, sample_rate_hz, length or self.length(), policy=self.channels):
            yield self.detect(
                clip.samples,
                start_s=clip.start_s,
                channels=clip.channels,
                threshold=threshold,
                section=section,
            )

    def _window_scores(self, scores: Array, samples: int, start_s: float) -> WindowScores:
        spec = self.models[0].input_spec
        frames = max(spec.mel.frames(samples), spec.min_frames)
        length = spec.window_frames or frames
        starts = window_starts(frames, length, spec.window_hop_frames)
        hop_s = spec.mel.hop_samples / SAMPLE_RATE_HZ
        ends = np.minimum((starts + length) * hop_s, samples / SAMPLE_RATE_HZ)
        return WindowScores(
            np.asarray(start_s + starts * hop_s, np.float64), np.asarray(start_s + ends, np.float64), scores
        )

    def _notes(self, clip: Clip, channels: int) -> Iterator[str]:
        check = SignalCheck()
        check.add(clip[:, None].astype(np.float32) / np.float32(32768))
        fault = check.fault()
        if fault is not None:
            yield FAULTS[fault]
        duration_s = len(clip) / channels / SAMPLE_RATE_HZ
        window_s = max((m.input_spec.min_frames - 1) * m.input_spec.mel.hop_samples for m in self.models)
        if len(clip) / channels < window_s:
            yield f"too short for a window of {window_s / SAMPLE_RATE_HZ:.2f} s: repeated end to end"
        clips = self.record.clips
        if not 0.5 * clips.shortest_s <= duration_s <= LONG_RECORDING * clips.longest_s:
            yield (
                f"{duration_s:.1f} s long, while training clips are {clips.length} long; "
                f"the threshold may not apply"
            )

    @cached_property
    def _ensemble(self) -> registry.Configured:
        return registry.configure(self.export.system, self.export.changed_settings)

    def _check_code(self) -> None:
        """Compare the installed code with the exported one; where it differs, the score of a known clip."""
        exported = [(model.configured, model.record.code) for model in self.models]
        exported.append((self._ensemble, self.export.code))
        changed = [configured.name for configured, code in exported if code_of(configured) != code]
        if not changed:
            return
        known = self.record.probe.score
        score = float(self.scores([probe_clip(self.record.probe.samples)]).score[0])
        if abs(score - known) > _SAME_SCORE * max(1.0, abs(known)):
            raise InputError(
                f"the installed code of {changed[0]} gives other scores than the code that this detector was "
                f"exported with ({score:.6g} instead of {known:.6g} for a known clip); install asdbench "
                f"{self.export.versions.asdbench} with that version of {changed[0]}, or export it again"
            )
        logger.warning(
            "the installed code of %s differs from the one that this detector was exported with; "
            "the score of a known clip is the same",
            changed[0],
        )


def _given(note: str | None) -> tuple[str, ...]:
    return () if note is None else (note,)


def probe_clip(samples: int) -> Clip:
    """Return an artificial clip, white noise; equal for equal numbers of samples.

    >>> probe_clip(3).tolist()
    [5780, 1311, 3207]
    """
    noise = np.random.RandomState(0).normal(0, 3277, samples)  # its stream never changes
    return noise.clip(-32768, 32767).astype(np.int16)
