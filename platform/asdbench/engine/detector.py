"""An exported detector: loads the folder that ``asdbench export`` writes, and scores audio.

Audio takes the same way as a clip of a data set: one channel by the data set's policy, 16 kHz, 16 bits, the
system's windows, components, fusion with the statistics of the hold-out, and the threshold that was
calibrated on it. The scores of a data set's own test clips are those of the job store.

Nothing in a folder is executed: a system is found by its name among those installed, tensors are read with
``weights_only``, everything else is JSON.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asdbench.data.audio import check_rate
from asdbench.engine.clip_stream import whole_clip
from asdbench.engine.detection import Detection
from asdbench.engine.export_record import RECORD, ExportRecord, read_record
from asdbench.engine.machine_detector import MachineDetector
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace


class Detector:
    """A detector of anomalous sound that ``asdbench export`` has written, for one or more machine types.

    Load it with :meth:`load`.

    Attributes
    ----------
    folder : folder of ``detector.json``
    record : all that is known about the detector: system, settings, data card, thresholds
    workspace : where pretrained weights are, which an export refers to
    """

    def __init__(self, folder: Path, record: ExportRecord, workspace: Workspace) -> None:
        self.folder, self.record, self.workspace = folder, record, workspace
        self._machines: dict[str, MachineDetector] = {}

    @classmethod
    def load(cls, folder: Path | str, *, workspace: Workspace | None = None) -> "Detector":
        """Load an exported detector; the models of a machine type are read when they are first used.

        Pretrained weights, which an export refers to, are read from the data home of ``workspace``: by
        default the one that the environment names.

        Raises
        ------
        InputError
            The folder is no exported detector, or is damaged or changed.
        """
        root = Path(folder)
        inner = root / "data" / "detector"
        place = root if (root / RECORD).exists() or not inner.is_dir() else inner
        return cls(place, read_record(place), workspace or Workspace.from_environment())

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types that the detector knows."""
        return tuple(self.record.machines)

    def machine(self, machine_type: str | None = None) -> MachineDetector:
        """Return the detector of a machine type, which need not be named if there is only one.

        Raises
        ------
        InputError
            There is no such machine type, or one must be named; the folder is damaged; a system is not
            installed, or its code gives other scores.
        """
        name = machine_type
        if name is None:
            if len(self.machine_types) > 1:
                raise InputError(
                    f"this detector knows {len(self.machine_types)} machine types; choose one with "
                    f"--machine: {', '.join(self.machine_types)}"
                )
            name = self.machine_types[0]
        if name not in self.record.machines:
            raise unknown_name("machine type in this detector:", name, self.machine_types)
        if name not in self._machines:
            self._machines[name] = MachineDetector.from_folder(
                name, self.record, self.folder, workspace=self.workspace
            )
        return self._machines[name]

    def score(
        self,
        samples: NDArray[Any],
        sample_rate: int,
        *,
        machine: str | None = None,
        threshold: str | float | None = None,
        section: str | None = None,
    ) -> Detection:
        """Score a recording as one clip.

        Parameters
        ----------
        samples : Float[ndarray, "sample"] or Float[ndarray, "channel sample"], full scale 1; or int16
        sample_rate : in Hz
        machine : machine type, if the detector knows several
        threshold : a method (empirical, gamma, tail) or a number (default: as exported)
        section : section of the recording, for systems that take it (default: the only one, or unknown)

        Raises
        ------
        InputError
            No samples, samples that are not finite, another shape or type, or no such machine type.
        """
        detector = self.machine(machine)
        check_rate(sample_rate)
        clip = whole_clip([as_frames(samples)], int(sample_rate), policy=detector.channels)
        return detector.detect(clip.samples, channels=clip.channels, threshold=threshold, section=section)

    def stream(
        self,
        blocks: Iterable[NDArray[Any]],
        sample_rate: int,
        *,
        machine: str | None = None,
        window_s: float | None = None,
        hop_s: float | None = None,
        threshold: str | float | None = None,
        section: str | None = None,
    ) -> Iterator[Detection]:
        """Score a stream over time, in constant memory: yield the result of each clip when it is complete.

        The stream is cut into overlapping clips; a stream that is shorter than a clip is one clip.
        `events` merges the results.

        Parameters
        ----------
        blocks : consecutive blocks of samples, as :meth:`score` takes them
        sample_rate : in Hz
        machine : machine type, if the detector knows several
        window_s : duration of a clip (default: the median of the training clips)
        hop_s : distance between the starts of clips (default: half a clip)
        threshold, section : as for :meth:`score`

        Raises
        ------
        InputError
            As for :meth:`score`, or a duration that is not positive.
        """
        detector = self.machine(machine)
        check_rate(sample_rate)
        frames = (as_frames(block) for block in blocks)
        length = detector.length(window_s, hop_s)
        return detector.stream(frames, int(sample_rate), length, threshold=threshold, section=section)


def as_frames(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples given as "sample" or "channel sample" as Float32[ndarray, "sample channel"], checked."""
    array = np.asarray(samples)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise InputError(
            f"samples have shape {array.shape}; give a non-empty array (sample,) or (channel, sample)"
        )
    if array.ndim == 2 and array.shape[0] > array.shape[1]:
        raise InputError(
            f"samples have shape {array.shape}, more channels than samples; transpose them to "
            f"(channel, sample)"
        )
    if array.dtype == np.int16:
        wave = array.astype(np.float32) / np.float32(32768)
    elif np.issubdtype(array.dtype, np.floating):
        wave = array.astype(np.float32)
    else:
        raise InputError(f"samples are of type {array.dtype}; give floats with full scale 1, or int16")
    if not np.isfinite(wave).all():
        raise InputError("samples are NaN or infinite; remove them or leave the recording out")
    frames: NDArray[np.float32] = np.atleast_2d(wave).T
    return frames
