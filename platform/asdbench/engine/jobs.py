"""Jobs, what their results depend on, and the store that keeps those results.

A job is (system, settings, data set, machine type, seed). Its results live in three places, each named by a
hash of *all* that the content depends on, so that what is there is right and is never made again:

- ``trainings/<key>/``: checkpoint, final model, timing. Training settings, seed, code, training clips.
- ``scores/<key>/``: every component score of hold-out and test clips. The training, scoring settings, code,
  test clips.
- ``results/<key>.json``: fused scores' metrics. The scores, fusion settings, the truth table.

Systems that score the same training share it. An ensemble trains and scores nothing: it has a result alone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import torch

from asdbench import registry
from asdbench.data import catalogue, mirror, store
from asdbench.data.catalogue import DataSet
from asdbench.data.loader import JobData, other_types
from asdbench.features.augment import ON_WAVEFORM
from asdbench.files import parsed_json
from asdbench.storage import Storage
from asdbench.system import BatchPlan, Facts, Needs, System

_TRAINING_REVISION = 1  # changes whenever the loop, the loader or the features would train another model
_SCORING_REVISION = 1  # changes whenever the same model would get other component scores


@dataclass(frozen=True)
class Job:
    """One system on one machine type of a data set, with one seed; plain data that travels."""

    system: str
    settings: Mapping[str, Any]
    data: str
    machine_type: str
    seed: int
    others: str | None = None  # data set of the pseudo-anomalies, if it is another


@lru_cache(maxsize=1024)  # data sets do not change, and their hash is their identity
def _fingerprint(data: DataSet, machine_type: str, split: str | None) -> str:
    return data.fingerprint(machine_type, split=split)


def key_of(described: Mapping[str, Any]) -> str:
    """Return the hash that names what depends on all of ``described`` and nothing else."""
    return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """A job with its system, settings and data set looked up.

    Attributes
    ----------
    job : the job
    configured : its system with settings
    data : its data set
    """

    job: Job
    configured: registry.Configured
    data: DataSet

    @classmethod
    def of(cls, job: Job, *, data: DataSet | None = None) -> "Prepared":
        """Look up a job's system and data set; what is unknown is an :class:`InputError`."""
        return cls(job, registry.configure(job.system, dict(job.settings)), data or catalogue.load(job.data))

    @classmethod
    def with_settings(
        cls,
        configured: registry.Configured,
        data: DataSet,
        machine_type: str,
        *,
        seed: int,
        others: str | None = None,
    ) -> "Prepared":
        """Return the job of a configured system; ``others`` is for systems that take pseudo-anomalies."""
        taken = others if configured.takes_others() else None
        job = Job(configured.name, configured.changed(), data.name, machine_type, seed, taken)
        return cls(job, configured, data)

    @cached_property
    def members(self) -> tuple["Prepared", ...]:
        """The jobs whose scores this one joins, if its system is an ensemble."""
        return tuple(
            Prepared(replace(self.job, system=member.name, settings=member.changed()), member, self.data)
            for member in self.configured.members
        )

    @cached_property
    def parts(self) -> tuple["Prepared", ...]:
        """The jobs that train and score: the members of an ensemble, else this one."""
        return self.members or (self,)

    @cached_property
    def others(self) -> DataSet | None:
        """The data set of the pseudo-anomalies, if it is another than the job's own."""
        return catalogue.load(self.job.others) if self.job.others and self.plan.others_share else None

    @property
    def needs(self) -> Needs:
        """What the trained system reads of each clip."""
        trainer = self.configured.trainer
        return trainer.system.needs(trainer.config)

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
            self.job.machine_type,
            needs=self.needs,
            plan=self.plan,
            seed=self.job.seed,
            others=self.others,
        )

    @property
    def machine_types_read(self) -> list[tuple[DataSet, str]]:
        """Machine types whose training clips the job reads, each with its data set."""
        others = other_types(self.data, self.job.machine_type, self.others) if self.plan.others_share else []
        return [(self.data, self.job.machine_type), *others]

    @property
    def stored_clips(self) -> list[mirror.Source]:
        """The Arrow files that the job reads; waveforms where its needs or its batch plan ask for them."""
        wave = self.needs.waveform or not ON_WAVEFORM.isdisjoint(self.plan.augmentations)
        found = []
        for data, machine_type in self.machine_types_read:
            path = store.mel_path(data, machine_type, self.needs.mel, min_frames=self.needs.window_frames)
            found.append(mirror.Source(data, machine_type, path))
            if wave:
                found.append(mirror.Source(data, machine_type, store.waveform_path(data, machine_type)))
        return found

    @cached_property
    def training_description(self) -> dict[str, Any]:
        """All that the trained model depends on."""
        trainer = self.configured.trainer
        return {
            "revision": _TRAINING_REVISION,
            "system": trainer.name,
            "code": registry.source_hash(trainer.name),
            "settings": trainer.values("training"),
            "machine_type": self.job.machine_type,
            "seed": self.job.seed,
            "clips": [[m, _fingerprint(data, m, "train")] for data, m in self.machine_types_read],
        }

    @cached_property
    def training_key(self) -> str:
        """Name of the training in the store."""
        return key_of(self.training_description)

    @cached_property
    def scoring_description(self) -> dict[str, Any]:
        """All that the component scores depend on."""
        if self.members:
            return {
                "system": self.job.system,
                "code": registry.source_hash(self.job.system),
                "settings": self.configured.own_values("scoring"),
                "members": [
                    [m.job.system, m.scoring_key, m.configured.values("fusion")] for m in self.members
                ],
            }
        return {
            "revision": _SCORING_REVISION,
            "training": self.training_key,
            "system": self.job.system,
            "code": registry.source_hash(self.job.system),
            "settings": self.configured.values("scoring"),
            "clips": _fingerprint(self.data, self.job.machine_type, "test"),
        }

    @cached_property
    def scoring_key(self) -> str:
        """Name of the component scores in the store."""
        return key_of(self.scoring_description)

    @property
    def keys(self) -> tuple[str, str]:
        """Names of training and scores in the store."""
        return self.training_key, self.scoring_key

    def fingerprint(self) -> str:
        """Return the hash of all clips of the job's machine type."""
        return _fingerprint(self.data, self.job.machine_type, None)

    def build_trained(self, facts: Facts) -> System:
        """Return the system that is trained, with initial weights from the current random state."""
        trainer = self.configured.trainer
        return trainer.system(trainer.config, facts)

    def build_scorer(self, trained: System) -> System:
        """Return the system that scores ``trained``: itself, or the job's own around it."""
        if self.configured.trained is None:
            return trained
        return self.configured.system(self.configured.config, trained.facts, trained)  # type: ignore[call-arg]


@dataclass(frozen=True)
class Work:
    """Jobs that share one training: what one worker does in one go."""

    jobs: tuple[Prepared, ...]

    @property
    def first(self) -> Prepared:
        """The job that stands for the training."""
        return self.jobs[0]

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the jobs' systems."""
        return tuple(prepared.job.system for prepared in self.jobs)


def by_training(jobs: Iterable[Prepared]) -> list[Work]:
    """Group jobs that share a training, in the given order; an ensemble stands for its members."""
    grouped: dict[str, dict[str, Prepared]] = {}
    for prepared in jobs:
        for part in prepared.parts:
            grouped.setdefault(part.training_key, {}).setdefault(part.scoring_key, part)
    return [Work(tuple(group.values())) for group in grouped.values()]


@dataclass(frozen=True, init=False)
class JobStore:
    """The results of jobs. Every file is written whole or not at all.

    Attributes
    ----------
    root : where they are kept, a folder or any other storage; ``jobs`` in the storage that the user chose,
        which is the data home unless ``ASDBENCH_STORAGE`` names another
    """

    root: Storage

    def __init__(self, root: Storage | Path | str | None = None) -> None:
        place = mirror.chosen_storage().within("jobs") if root is None else Storage.of(root)
        object.__setattr__(self, "root", place)

    @property
    def uri(self) -> str:
        """What names it to another process, with whatever password that takes."""
        return self.root.uri

    def training(self, key: str) -> str:
        """Return the folder of a training; names of files start with it."""
        return f"trainings/{key}"

    def scores(self, key: str) -> str:
        """Return the folder of component scores; names of files start with it."""
        return f"scores/{key}"

    def result(self, key: str) -> str:
        """Return the name of a result's file."""
        return f"results/{key}.json"

    def training_record(self, key: str) -> dict[str, Any]:
        """Return what is stored about a finished training."""
        return self.root.read_json(f"{self.training(key)}/training.json")  # type: ignore[no-any-return]

    def scoring_record(self, key: str) -> dict[str, Any]:
        """Return what is stored about finished component scores."""
        return self.root.read_json(f"{self.scores(key)}/scoring.json")  # type: ignore[no-any-return]

    def components(self, key: str) -> pl.DataFrame:
        """Return stored component scores, as :func:`asdbench.engine.scoring.component_scores` made them."""
        return pl.read_parquet(self.root.readable(f"{self.scores(key)}/components.parquet"))

    def save_tensors(self, name: str, content: Any) -> None:
        """Write tensors and plain values with ``torch.save``."""
        self.root.write(name, lambda stream: torch.save(content, stream))

    def load_tensors(self, name: str) -> Any:
        """Read what :meth:`save_tensors` wrote; nothing in the file is executed."""
        return torch.load(self.root.readable(name), map_location="cpu", weights_only=True)

    def is_trained(self, prepared: Prepared) -> bool:
        """Whether the job's training is finished."""
        return self._has_all(self.training(prepared.training_key), "training.json", "model.pt")

    def is_scored(self, prepared: Prepared) -> bool:
        """Whether the job's component scores are there, and the training that they are of."""
        if prepared.members:
            return all(map(self.is_scored, prepared.members))
        files = ("scoring.json", "components.parquet", "backend.pt")
        return self.is_trained(prepared) and self._has_all(self.scores(prepared.scoring_key), *files)

    def is_done(self, work: Work) -> bool:
        """Whether all jobs of ``work`` are trained and scored."""
        return all(self.is_scored(prepared) for prepared in work.jobs)

    def steps_per_second(self, system: str) -> float | None:
        """Return the median training speed of ``system`` in what is stored, ``None`` if it never ran."""
        rates = []
        for name, content in self.root.read_each(self.root.names("trainings", "/training.json")):
            try:
                record = parsed_json(content, place=name)
            except ValueError:  # it serves an estimate only
                continue
            if record["description"]["system"] == system and record["seconds"] > 0:
                rates.append(record["steps"] / record["seconds"])
        return sorted(rates)[len(rates) // 2] if rates else None

    def _has_all(self, folder: str, *files: str) -> bool:
        there = set(self.root.names(folder))  # one request over a network
        return all(f"{folder}/{file}" in there for file in files)
