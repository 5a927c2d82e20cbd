"""Jobs, and what their results depend on.

A job is (system, settings, data set, machine type, seed). Its results are stored in three places, each named
by a hash of *all* that the content depends on, so that a stored result is valid and never computed again:

- ``trainings/<key>/``: checkpoint, final model, timing. Training settings, seed, code, training clips.
- ``scores/<key>/``: every component score of hold-out and test clips, and their embeddings. The training,
  scoring settings, code, test clips.
- ``results/<key>.json``: fused scores' metrics. The scores, fusion settings, the truth table.

Systems that score the same training share it. An ensemble trains and scores nothing; it has results only.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypedDict

from asdbench import registry
from asdbench.config import SettingValue
from asdbench.data import embeddings, feature_store, node_copies
from asdbench.data.feature_store import FeatureSpec
from asdbench.data.loader import JobData
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.data.training_clips import pseudo_anomaly_types, trained_types
from asdbench.engine.platform_code import scoring_code, training_code
from asdbench.engine.pretrained import load_pretrained, weight_digests, weights_read
from asdbench.engine.task_records import ScoringDescription, TrainingDescription
from asdbench.features.augment import ON_WAVEFORM
from asdbench.io.workspace import Workspace
from asdbench.system import BatchPlan, InputSpec, Scope, System, TrainingFacts

ALL_TYPES = "all types"  # what stands for the machine type of a training for a whole data set


class EnsembleDescription(TypedDict):
    """All that the component scores of an ensemble depend on."""

    system: str
    code: str
    settings: dict[str, SettingValue]
    members: list[tuple[str, str, dict[str, SettingValue]]]


@dataclass(frozen=True)
class Job:
    """One system on one machine type of a data set, with one seed; plain data to send to workers."""

    system: str
    settings: Mapping[str, SettingValue]
    data: str
    machine_type: str
    seed: int
    pseudo_anomaly_data: str | None = None  # data set of the pseudo-anomalies, if not ``data``
    hold_out_seed: int | None = None  # seed of the hold-out, if not ``seed``


def key_of(described: Mapping[str, object]) -> str:
    """Return the hash that names a result which depends on exactly ``described``.

    >>> key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    True
    """
    return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class ResolvedJob:
    """A job with its system, settings and data set looked up.

    Attributes
    ----------
    configured : its system with settings, the only form in which it carries them
    data : its data set
    machine_type, seed : as in `Job`
    pseudo_anomaly_name : name of the data set of the pseudo-anomalies, if not ``data``
    hold_out_seed : seed of the hold-out, if not ``seed``: members of an ensemble share their hold-out
    """

    configured: registry.Configured
    data: DataSet
    machine_type: str
    seed: int
    pseudo_anomaly_name: str | None = None
    hold_out_seed: int | None = None

    @classmethod
    def from_job(cls, job: Job, data: DataSet) -> "ResolvedJob":
        """Look up a job's system; an unknown system or setting is an :class:`InputError`."""
        configured = registry.configure(job.system, job.settings)
        return cls(configured, data, job.machine_type, job.seed, job.pseudo_anomaly_data, job.hold_out_seed)

    @classmethod
    def from_workspace(cls, job: Job, workspace: Workspace) -> "ResolvedJob":
        """Look up a job's system and data set; unknown names are an :class:`InputError`."""
        return cls.from_job(job, catalog.load(workspace, job.data))

    @classmethod
    def from_configured(
        cls,
        configured: registry.Configured,
        data: DataSet,
        machine_type: str,
        *,
        seed: int,
        pseudo_anomaly_data: str | None = None,
    ) -> "ResolvedJob":
        """Return the job of a configured system.

        ``pseudo_anomaly_data`` counts only if the system takes pseudo-anomalies.
        """
        taken = pseudo_anomaly_data if configured.takes_pseudo_anomalies() else None
        return cls(configured, data, machine_type, seed, taken)

    @cached_property
    def job(self) -> Job:
        """The job as plain data, with the settings that differ from the defaults."""
        return Job(
            self.configured.name,
            self.configured.changed(),
            self.data.name,
            self.machine_type,
            self.seed,
            self.pseudo_anomaly_name,
            self.hold_out_seed,
        )

    @cached_property
    def members(self) -> tuple["ResolvedJob", ...]:
        """The jobs whose scores this one joins, if its system is an ensemble."""
        return tuple(map(self._member, self.configured.members))

    def _member(self, member: registry.Configured) -> "ResolvedJob":
        if not member.seed_offset:
            return replace(self, configured=member)
        return replace(self, configured=member, seed=self.seed + member.seed_offset, hold_out_seed=self.seed)

    @cached_property
    def parts(self) -> tuple["ResolvedJob", ...]:
        """The jobs that train and score: the members of an ensemble, else this one."""
        return self.members or (self,)

    @cached_property
    def pseudo_anomaly_data(self) -> DataSet | None:
        """The data set of the pseudo-anomalies, if it is another than the job's own."""
        return (
            catalog.load(self.data.workspace, self.pseudo_anomaly_name)
            if self.pseudo_anomaly_name and self.plan.pseudo_anomaly_share
            else None
        )

    @property
    def input_spec(self) -> InputSpec:
        """What the trained system reads of each clip."""
        return self.configured.input_spec

    @property
    def scope(self) -> Scope:
        """Whether the job's training is for its machine type or for all of the data set."""
        return self.configured.trainer.system.scope

    @property
    def trained_on(self) -> str:
        """The machine types of the job's training, for people."""
        return self.machine_type if self.scope == "machine" else ALL_TYPES

    @property
    def plan(self) -> BatchPlan:
        """How the trained system's batches are made up."""
        trainer = self.configured.trainer
        return trainer.system.batch_plan(trainer.config)

    @cached_property
    def clips(self) -> JobData:
        """The job's clips, as its system sees them."""
        return JobData(
            self.data,
            self.machine_type,
            input_spec=self.input_spec,
            plan=self.plan,
            seed=self.seed,
            pseudo_anomaly_data=self.pseudo_anomaly_data,
            scope=self.scope,
            hold_out_seed=self.hold_out_seed,
        )

    @property
    def machine_types_read(self) -> list[tuple[DataSet, str]]:
        """Machine types whose training clips the job's training reads, each with its data set."""
        pseudo_anomaly_data = (
            pseudo_anomaly_types(self.data, self.machine_type, self.pseudo_anomaly_data)
            if self.plan.pseudo_anomaly_share
            else []
        )
        trained = trained_types(self.data, self.machine_type, self.scope)
        return [*((self.data, name) for name in trained), *pseudo_anomaly_data]

    @property
    def features(self) -> list[tuple[DataSet, FeatureSpec]]:
        """What the job reads of each machine type; waveforms where its spec or batch plan needs them."""
        spec, ids = self.input_spec, weights_read(self.configured)
        wave = spec.waveform or not ON_WAVEFORM.isdisjoint(self.plan.augmentations)
        read: list[tuple[DataSet, FeatureSpec]] = []
        for data, machine in self.machine_types_read:
            main = FeatureSpec(
                data.name, machine, spec.mel, spec.min_frames, wave, spec.encoder, ids, spec.second_channel
            )
            further = [
                FeatureSpec(data.name, machine, mel, spec.frames_of(mel, spec.min_frames))
                for mel in spec.features.values()
            ]
            read += [(data, each) for each in (main, *further)]
        return read

    @property
    def stored_clips(self) -> list[node_copies.FeatureFile]:
        """The Arrow files that the job reads."""
        return [
            node_copies.FeatureFile(data, spec.machine_type, path)
            for data, spec in self.features
            for path in feature_store.paths(data, spec)
        ]

    @cached_property
    def training_description(self) -> TrainingDescription:
        """All that the trained model depends on."""
        trainer = self.configured.trainer
        description: TrainingDescription = {
            "platform": training_code(),
            "system": trainer.name,
            "code": registry.source_hash(trainer.name),
            "settings": trainer.values("training"),
            "machine_type": self.trained_on,
            "seed": self.seed,
            "clips": [(m, data.fingerprint(m, split="train")) for data, m in self.machine_types_read],
        }
        if self.hold_out_seed is not None:
            description["hold_out_seed"] = self.hold_out_seed
        digests = weight_digests(self.configured, self.data.workspace)
        if digests:
            description["weights"] = digests
        if self.input_spec.encoder is not None:
            description["encoder_code"] = embeddings.code()
        if self.plan.supplemental_rows:
            types = trained_types(self.data, self.machine_type, self.scope)
            fingerprints = [(m, self.data.fingerprint(m, split="supplemental")) for m in types]
            description["supplemental"] = fingerprints
        return description

    @cached_property
    def training_key(self) -> str:
        """Name of the training in the store."""
        return key_of(self.training_description)

    @cached_property
    def ensemble_description(self) -> EnsembleDescription:
        """All that the joined component scores depend on, if the system is an ensemble."""
        return {
            "system": self.configured.name,
            "code": registry.source_hash(self.configured.name),
            "settings": self.configured.own_values("scoring"),
            "members": [(m.job.system, m.scoring_key, m.configured.values("fusion")) for m in self.members],
        }

    @cached_property
    def scoring_description(self) -> ScoringDescription:
        """All that the component scores depend on, if the system is not an ensemble."""
        described: ScoringDescription = {
            "platform": scoring_code(),
            "training": self.training_key,
            "system": self.configured.name,
            "code": registry.source_hash(self.configured.name),
            "settings": self.configured.values("scoring"),
            "clips": self.data.fingerprint(self.machine_type, split="test"),
        }
        if self.scope == "data set":  # the training does not name the machine type
            described["machine_type"] = self.machine_type
        return described

    @cached_property
    def scoring_key(self) -> str:
        """Name of the component scores in the store."""
        return key_of(self.ensemble_description if self.members else self.scoring_description)

    @property
    def keys(self) -> tuple[str, str]:
        """Names of training and scores in the store."""
        return self.training_key, self.scoring_key

    def fingerprint(self) -> str:
        """Return the hash of all clips of the job's machine type."""
        return self.data.fingerprint(self.machine_type)

    def build_trained(self, facts: TrainingFacts) -> System:
        """Return the system that is trained, with initial weights from the current random state.

        Pretrained weights are loaded; :class:`InputError` if they are missing.
        """
        system = self.configured.build_trained(facts)
        load_pretrained(system, self.configured, self.data.workspace)
        return system

    def build_scorer(self, trained: System) -> System:
        """Return the system that scores ``trained``: itself, or the job's own around it."""
        return self.configured.build_scorer(trained)


@dataclass(frozen=True)
class TrainingTask:
    """Jobs that share one training, run together by one worker."""

    jobs: tuple[ResolvedJob, ...]

    @property
    def first(self) -> ResolvedJob:
        """The job that stands for the training."""
        return self.jobs[0]

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the jobs' systems."""
        return tuple(resolved.job.system for resolved in self.jobs)

    @property
    def label(self) -> str:
        """The task as people know it: machine type or "all types", trained system and seed."""
        trained = replace(self.first.job, machine_type=self.first.trained_on)
        return job_label(trained, self.first.configured.trainer.name)

    @property
    def scored_label(self) -> str:
        """The task with the systems that score, each once."""
        scored = replace(self.first.job, machine_type=self.first.trained_on)
        return job_label(scored, *dict.fromkeys(self.systems))

    @cached_property
    def key(self) -> str:
        """Hash that names the task: the same jobs have the same key."""
        return key_of({"jobs": sorted(resolved.keys for resolved in self.jobs)})


def job_label(job: Job, *systems: str) -> str:
    """Return a job as people know it; ``systems`` stand for its own system.

    >>> job_label(Job("baseline-mse", {}, "tiny", "fan", seed=0))
    'fan baseline-mse seed 0'
    """
    return f"{job.machine_type} {', '.join(systems or [job.system])} seed {job.seed}"


def by_training(jobs: Iterable[ResolvedJob]) -> list[TrainingTask]:
    """Group jobs that share a training, in the given order; an ensemble stands for its members."""
    grouped: dict[str, dict[str, ResolvedJob]] = {}
    for resolved in jobs:
        for part in resolved.parts:
            grouped.setdefault(part.training_key, {}).setdefault(part.scoring_key, part)
    return [TrainingTask(tuple(group.values())) for group in grouped.values()]
