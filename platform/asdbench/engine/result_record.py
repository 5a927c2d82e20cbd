"""The stored result of a job: one typed record per judged job and subset, written and read here alone."""

import msgspec

from asdbench.config import SettingValue
from asdbench.engine.versions import Versions
from asdbench.io.records import record_from_json, record_to_json
from asdbench.metrics import Rule

SCHEMA_VERSION = 2
_CURE = "remove the file, and the same 'asdbench run' writes it again"


class SearchProvenance(msgspec.Struct, frozen=True):
    """How the settings of a job were chosen: by a search that saw labels.

    Attributes
    ----------
    search : key of the search
    trials : number of trials that it had finished when it chose; of an ensemble, those of its tuned members
    protocol : whose labels it saw: ``"dev"``, those of all development clips
    seeds : the seeds whose results the search saw
    score : the official score that made the search choose these settings, as a fraction
    weight_vectors : number of an ensemble's weight vectors that the search evaluated
    """

    search: str
    trials: int
    protocol: str = "dev"
    seeds: tuple[int, ...] = ()
    score: float | None = None
    weight_vectors: int = 0


class AlarmCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of ``normals`` normal clips, ``false_alarms`` are above the threshold."""

    false_alarms: int
    normals: int


class HeldOutNormals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The held-out normal clips of a domain that a threshold comes from.

    Attributes
    ----------
    false_alarms, normals : of ``normals`` clips, the number above a threshold that was fitted without their
        recordings or groups; 0 of 0 where a single group is held out
    units : number of recordings; of clips where recordings are unknown
    units_are : ``"recordings"`` or ``"clips"``
    is_fresh : whether neither a training nor a fit has seen them; else a training has
    """

    false_alarms: int
    normals: int
    units: int
    units_are: str
    is_fresh: bool


class StoredThreshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A decision threshold and how it does on normal clips.

    Attributes
    ----------
    threshold : the score above which a clip is called anomalous; ``None`` where normal clips are too few
    held_out : normal clips that it comes from, by domain
    needed : fewest recordings or clips of a domain from which a threshold keeps the nominal rate

    Examples
    --------
    >>> StoredThreshold(None, {"source": HeldOutNormals(3, 30, 4, "recordings", True)}, 9).shortfall
    'too few normal clips to set a threshold: 4 recordings, needed 9'
    """

    threshold: float | None
    held_out: dict[str, HeldOutNormals]
    needed: int

    @property
    def shortfall(self) -> str | None:
        """Why there is no threshold, for people; ``None`` where there is one."""
        if self.threshold is not None:
            return None
        source = self.held_out["source"]
        have = (
            f"{source.units} {source.units_are if source.units != 1 else source.units_are.removesuffix('s')}"
        )
        return f"too few normal clips to set a threshold: {have}, needed {self.needed}"

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The domains in which the threshold keeps the nominal false alarm rate."""
        if self.threshold is None:
            return ()
        return tuple(
            domain
            for domain, normals in self.held_out.items()
            if normals.units >= self.needed and normals.is_fresh
        )


class SectionMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The metrics of one section.

    Attributes
    ----------
    official : metrics of the data set's rule
    in_domain : metrics of each domain that has normal clips and anomalies
    decisions : precision, recall and F1, by threshold method; of those that give a threshold
    half_width : half-widths of the jackknife intervals of the official metrics, over recordings where they
        are known, else over clips; a metric that one recording decides has none
    clips : number of judged clips
    false_alarms : of the normal test clips, by threshold method and domain
    """

    official: dict[str, float]
    in_domain: dict[str, float]
    decisions: dict[str, dict[str, float]]
    half_width: dict[str, float]
    clips: int
    false_alarms: dict[str, dict[str, AlarmCount]] = msgspec.field(default_factory=dict)


class ResultKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys in the job store of the trainings and the scores that a result is computed from."""

    trainings: tuple[str, ...]
    scoring: str


class ResultRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A judged job, as the job store keeps it.

    Attributes
    ----------
    system, settings, changed_settings : the system, all its settings, and those that differ from the defaults
    data, machine_type, seed, pseudo_anomaly_data : the job's other inputs
    subset : the judged subset, ``"dev"`` or ``"eval"``
    tuned : the search that chose the settings, ``None`` if none did
    transductive : whether scores of a clip may depend on the other test clips
    rule : how the data set counts
    keys : keys of the trainings and the scores
    fingerprint : hash of the machine type's clips
    code : hash of the system's code
    thresholds : decision thresholds by method
    sections : metrics by section
    hold_out_clips : number of normal clips that were held out of training
    parameters, macs_per_clip : size of the model, and multiply-accumulates of scoring one clip
    training_seconds, training_steps, scoring_seconds, clips_per_second : what the job took
    finished : when it was judged, UTC, in ISO 8601
    data_version : which published version the data set is, ``None`` where that is not known
    versions : of the platform and of packages: each combination that trained, scored or judged, once
    """

    system: str
    settings: dict[str, SettingValue]
    changed_settings: dict[str, SettingValue]
    data: str
    machine_type: str
    seed: int
    pseudo_anomaly_data: str | None
    subset: str
    tuned: SearchProvenance | None
    transductive: bool
    rule: Rule
    keys: ResultKeys
    fingerprint: str
    code: str
    thresholds: dict[str, StoredThreshold]
    sections: dict[str, SectionMetrics]
    hold_out_clips: int
    parameters: int
    macs_per_clip: int
    training_seconds: float
    training_steps: int
    scoring_seconds: float
    clips_per_second: float
    finished: str
    data_version: str | None = None
    versions: tuple[Versions, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def official_metrics(self) -> list[dict[str, float]]:
        """The official metrics of each section."""
        return [section.official for section in self.sections.values()]


def to_json(record: ResultRecord) -> bytes:
    """Return a result record as the content of its file."""
    return record_to_json(record)


def from_json(content: bytes, *, path: str) -> ResultRecord:
    """Return the result record in a file; one that does not fit is an `asdbench.io.records.RecordError`."""
    return record_from_json(content, ResultRecord, schema_version=SCHEMA_VERSION, path=path, cure=_CURE)
