"""The record of an exported detector, ``detector.json``: all that it takes to score besides the weights.

An exported folder holds this record and one file of tensors per machine type. The record lists the hash of
each of these files and its own, so that a file that was damaged or changed is noticed. The hashes are no
signature: they do not show who made a folder.
"""

import hashlib
from pathlib import Path

import msgspec

from asdbench.config import SettingValue
from asdbench.data.audio import ChannelPolicy
from asdbench.engine.fitted_fusion import FittedFusion, Normalization
from asdbench.engine.result_record import StoredThreshold
from asdbench.engine.versions import Versions
from asdbench.errors import InputError
from asdbench.io.records import RecordError, record_from_json, record_to_json
from asdbench.metrics import Rule

SCHEMA_VERSION = 2
RECORD = "detector.json"
CURE = "export the detector again with 'asdbench export'"


class DataCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The data set that a detector was trained on.

    Attributes
    ----------
    name : name of the data set
    license : license texts found in the folder of the recordings
    fingerprint : hash of all its clips
    rule : how the data set counts
    channels : policy by which a recording of several channels becomes a single one
    """

    name: str
    license: str | None
    fingerprint: str
    rule: Rule
    channels: ChannelPolicy


class ClipCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The clips of a machine type, and the durations of its training clips in seconds."""

    training: int
    hold_out: int
    target_domain: int
    test: int
    shortest_s: float
    median_s: float
    longest_s: float

    @property
    def length(self) -> str:
        """The durations in words, such as "10.0 s" or "6.0 to 10.0 s"."""
        ends = dict.fromkeys(f"{length_s:.1f}" for length_s in (self.shortest_s, self.longest_s))
        return f"{' to '.join(ends)} s"


class ExportedModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trained and fitted system on one machine type.

    Attributes
    ----------
    system, settings : the system and all its settings
    code : hash of the system's code
    sections, attributes, machine_types, groups : the system's `asdbench.system.TrainingFacts`
    section : the section of the machine type's training clips, if they have one only
    fusion : fusion of its components
    normalization : statistics of its anomaly score, as an ensemble uses them
    weights : SHA-256 of the pretrained weights that it takes, by id; an export refers to them, and does not
        hold them
    """

    system: str
    settings: dict[str, SettingValue]
    code: str
    sections: tuple[str, ...]
    attributes: dict[str, tuple[str, ...]]
    fusion: FittedFusion
    normalization: Normalization
    machine_types: tuple[str, ...] = ()
    groups: int = 0
    section: str | None = None
    weights: dict[str, str] = msgspec.field(default_factory=dict)


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The score of `asdbench.engine.machine_detector.probe_clip`, which shows whether code scores alike."""

    samples: int
    score: float


class NetworkFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ONNX network of a machine type: its file, the file's hash, and the names of its outputs."""

    file: str
    digest: str
    outputs: tuple[str, ...]


class MachineRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A detector of one machine type.

    Attributes
    ----------
    file, digest : name and hash of the file with its tensors
    models : the models of the system, or of the members of an ensemble
    fusion : fusion of the ensemble's components; None for other systems
    thresholds : decision thresholds by method
    clips : counts and durations
    fingerprint : hash of the machine type's clips
    probe : known score of an artificial clip
    network : its network as an ONNX file, if one was asked for
    """

    file: str
    digest: str
    models: tuple[ExportedModel, ...]
    fusion: FittedFusion | None
    thresholds: dict[str, StoredThreshold]
    clips: ClipCounts
    fingerprint: str
    probe: Probe
    network: NetworkFile | None = None


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exported detector.

    Attributes
    ----------
    system, settings, changed_settings : the system, all its settings, and those that differ from the defaults
    code : hash of the system's code
    chosen_on : names of the data sets whose labels chose the system or settings that it has
    seed : random seed of training
    threshold_method : method of the decision threshold unless another is chosen
    machines : detectors by machine type
    data : the data set
    versions : what made the export
    created : time of the export, UTC, in ISO 8601
    digest : hash of this record without its digest
    """

    system: str
    settings: dict[str, SettingValue]
    changed_settings: dict[str, SettingValue]
    code: str
    seed: int
    threshold_method: str
    machines: dict[str, MachineRecord]
    data: DataCard
    versions: Versions
    created: str
    chosen_on: tuple[str, ...] = ()
    digest: str = ""
    schema_version: int = SCHEMA_VERSION


def digest_of(content: bytes) -> str:
    """Return the hash of a file's content.

    >>> digest_of(b"")[:8]
    'cae66941'
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _sealed(record: ExportRecord) -> ExportRecord:
    unsealed = msgspec.structs.replace(record, digest="")
    return msgspec.structs.replace(record, digest=digest_of(record_to_json(unsealed)))


def to_json(record: ExportRecord) -> bytes:
    """Return a record as the content of its file, with its digest."""
    return record_to_json(_sealed(record))


def read_record(folder: Path) -> ExportRecord:
    """Return the record of an exported folder.

    Raises
    ------
    InputError
        The folder is no exported detector, or its record is damaged, changed or of another version.
    """
    path = folder / RECORD
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{str(folder)!r} is not an exported detector ({RECORD}: {error.strerror}); write one with "
            f"'asdbench export SYSTEM --data NAME'"
        ) from error
    record = record_from_json(content, ExportRecord, schema_version=SCHEMA_VERSION, path=str(path), cure=CURE)
    if record.digest != _sealed(record).digest:
        raise RecordError(f"{path} was changed after the export; {CURE}", str(path))
    return record


def read_tensors_file(folder: Path, machine: MachineRecord) -> bytes:
    """Return the content of a machine type's file of tensors; :class:`InputError` if it was changed."""
    path = folder / machine.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {CURE}") from error
    if digest_of(content) != machine.digest:
        raise InputError(f"{path} is damaged or was changed after the export; {CURE}")
    return content
