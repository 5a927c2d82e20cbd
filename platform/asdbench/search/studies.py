"""A study: the trials of one search, stored so that the same command resumes an interrupted search.

A trial is one combination of settings on *all* machine types of the study. Its objective is the official
score over them, averaged over the seeds; its rungs are the scores over the first machine types, in a fixed
order, which decide whether the trial is pruned. The study's record is one JSON file in the job store. It
holds every trial with its parameters, so that a resumed study knows all that the interrupted one knew. The
jobs of the trials are in the job store like all others.

What trial n draws depends on (seed, n) and on the results so far, because each trial has a sampler with its
own seed. Searches of up to ten trials, which Optuna draws at random, are therefore the same for any number of
parallel trials; longer ones are the same if one trial runs at a time.

A trial whose training fails has the score 0, so that the search avoids settings with which training diverges.

Source: J. Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011 (the tree-structured
Parzen estimator), as Optuna's ``TPESampler`` implements it.
"""

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import msgspec
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from asdbench.config import SettingValue
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import key_of
from asdbench.engine.search_record import (
    BestTrial,
    StoredTrial,
    StudyRecord,
    load_study,
    save_search,
)
from asdbench.search.space import Parameters, Space

RANDOM_TRIALS = 10  # Optuna's number of trials before the estimator takes over
_FORMAT = 1


@dataclass
class Trial:
    """A trial as it is stored.

    Attributes
    ----------
    number : from 0, which is the untuned system
    parameters : drawn values by setting
    state : ``"running"``, ``"complete"``, ``"pruned"`` or ``"failed"``
    rungs : official scores over the first machine types, for each number of them
    types : metrics of each finished machine type, averaged over its sections and the seeds
    began_unix_s, ended_unix_s : when the trial started and ended
    message : why it failed

    >>> Trial(3, {"learning_rate": 0.01}, "pruned", [0.61, 0.58]).score
    0.58
    """

    number: int
    parameters: Parameters
    state: str = "running"
    rungs: list[float] = field(default_factory=list)
    types: dict[str, dict[str, float]] = field(default_factory=dict)
    began_unix_s: float = field(default_factory=time.time)
    ended_unix_s: float | None = None
    message: str | None = None

    @property
    def score(self) -> float:
        """Official score over the finished machine types; 0 if the trial failed."""
        return self.rungs[-1] if self.rungs and self.state != "failed" else 0.0


@dataclass(frozen=True)
class Study:
    """A search of one system's settings.

    Attributes
    ----------
    space : the search space
    data : the data set
    pseudo_anomaly_data : data set of the pseudo-anomalies, if not ``data``
    machine_types : the machine types that steer the search, in the order of the rungs
    seeds : seeds over which a trial's score is averaged
    seed : seed of the search
    protocol : ``"dev"`` or ``"leave-one-type-out"``
    held_out : the machine type that ``"leave-one-type-out"`` leaves out
    description : all that the search depends on, except for the number of trials
    trials : all trials, by number
    started : numbers of the trials that this process has started
    """

    space: Space
    data: DataSet
    pseudo_anomaly_data: str | None
    machine_types: tuple[str, ...]
    seeds: tuple[int, ...]
    seed: int
    protocol: str
    held_out: str | None
    description: Mapping[str, object]
    trials: list[Trial] = field(default_factory=list)
    started: set[int] = field(default_factory=set)

    @property
    def system(self) -> str:
        """Name of the system."""
        return self.space.system

    @property
    def key(self) -> str:
        """Hash of all that the search depends on."""
        return key_of({**self.description, "format": _FORMAT})

    @property
    def finished(self) -> list[Trial]:
        """The trials that have ended, by number."""
        return [trial for trial in self.trials if trial.state != "running"]

    def start_trial(self, parameters: Parameters) -> Trial:
        """Return the trial with these parameters: the first one to resume, or a new one."""
        for trial in self.trials:
            if trial.state == "running" and trial.number not in self.started:
                break
        else:
            trial = Trial(len(self.trials), parameters)
            self.trials.append(trial)
        self.started.add(trial.number)
        return trial

    def best_trial(self) -> Trial | None:
        """Return the complete trial with the highest score, the first of ties."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return max(complete, key=lambda trial: (trial.score, -trial.number), default=None)

    def untuned_trial(self) -> Trial | None:
        """Return the trial of the untuned system, if it is complete."""
        return next((t for t in self.trials if t.number == 0 and t.state == "complete"), None)

    def settings(self, trial: Trial) -> dict[str, SettingValue]:
        """Return all settings of the system in a trial."""
        return {**self.space.start, **trial.parameters}

    def load(self, store: JobStore) -> None:
        """Take over the trials of a stored record; those that had not ended start again."""
        record = load_study(store, self.key)
        if record is not None:
            self.trials[:] = [_from_stored(trial) for trial in record.trials]
            for trial in self.trials:
                if trial.state == "running":
                    trial.rungs.clear()
                    trial.types.clear()
                    trial.message = None

    def save(self, store: JobStore) -> None:
        """Store the record."""
        best = self.best_trial()
        record = StudyRecord(
            system=self.system,
            data=self.data.name,
            subset="dev",
            protocol=self.protocol,
            held_out=self.held_out,
            pseudo_anomaly_data=self.pseudo_anomaly_data,
            start=dict(self.space.start),
            seeds=self.seeds,
            description=dict(self.description),
            trials_done=len(self.finished),
            best=None if best is None else BestTrial(best.number, best.score, self.settings(best)),
            trials=tuple(_to_stored(trial) for trial in self.trials),
        )
        save_search(store, self.key, record)

    def to_optuna(self, name: str, storage: optuna.storages.BaseStorage) -> optuna.Study:
        """Return an Optuna study with the trials that have ended.

        It resumes the other trials before it draws new ones. The first trial of a new study is the untuned
        system.
        """
        _quiet()
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", sampler=self.sampler()
        )
        for trial in self.finished:
            study.add_trial(_frozen(trial, self.space))
        for trial in self.trials:
            if trial.state == "running":
                study.enqueue_trial(trial.parameters)
        if not self.trials:
            study.enqueue_trial(self.space.parameters({}))
        return study

    def sampler(self) -> optuna.samplers.BaseSampler:
        """Return the sampler of this study."""
        return SamplerByNumber(self.seed)


class SamplerByNumber(optuna.samplers.BaseSampler):
    """Optuna's ``TPESampler`` with a seed per trial, from the study's seed and the trial's number."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = -1
        self._sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed)

    def _sampler_for(self, trial: FrozenTrial) -> optuna.samplers.BaseSampler:
        if trial.number != self._number:
            self._number = trial.number
            seed = (self._seed * 1_000_003 + trial.number) % 2**32
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about arguments that Optuna calls experimental
                self._sampler = optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=RANDOM_TRIALS, constant_liar=True
                )
        return self._sampler

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Ask the sampler of the trial."""
        return self._sampler_for(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, object]:
        """Ask the sampler of the trial."""
        return self._sampler_for(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> object:
        """Ask the sampler of the trial."""
        return self._sampler_for(trial).sample_independent(study, trial, param_name, param_distribution)


def _to_stored(trial: Trial) -> StoredTrial:
    return msgspec.convert(asdict(trial), StoredTrial)


def _from_stored(trial: StoredTrial) -> Trial:
    return Trial(**{**msgspec.structs.asdict(trial), "rungs": list(trial.rungs)})


def _frozen(trial: Trial, space: Space) -> FrozenTrial:
    pruned = trial.state == "pruned"
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState.PRUNED if pruned else optuna.trial.TrialState.COMPLETE,
        value=trial.score,
        params=trial.parameters,
        distributions=space.distributions(trial.parameters),
        intermediate_values=dict(enumerate(trial.rungs, start=1)),
    )


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
