"""A study: the trials of one search, kept so that the same command goes on where it was stopped.

A trial is one setting of the system on *all* machine types of the study. Its objective is the official score
over them, averaged over the seeds; its rungs are the scores over the first machine types, in a fixed order,
from which it is decided whether to go on. The study's record is one JSON file of the job store; it names
every trial with what was drawn, so that a study that goes on knows all that the interrupted one knew. The
jobs of its trials are in the job store like any others.

What trial n draws depends on (seed, n) and on the results that are there: the sampler is seeded anew for each
trial. So searches of no more than ten trials, which Optuna draws at random, are the same however many run at
a time; longer ones are the same where one trial runs at a time.

A trial whose training fails has the score 0: settings with which training diverges are to be avoided.

Source: J. Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011 (the tree-structured
Parzen estimator), as Optuna's ``TPESampler`` implements it.
"""

import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import optuna

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import key_of
from asdbench.search.space import Space

RANDOM_TRIALS = 10  # Optuna's number of trials before the estimator takes over
_FORMAT = 1


@dataclass
class Trial:
    """A trial as it is stored.

    Attributes
    ----------
    number : from 0, which is the system untuned
    parameters : what was drawn, by name of the setting
    state : ``"running"``, ``"complete"``, ``"pruned"`` or ``"failed"``
    rungs : official score over the first machine types, for each number of them
    types : metrics of each machine type that is finished, averaged over its sections and the seeds
    began_unix_s, ended_unix_s : when
    message : why it failed
    """

    number: int
    parameters: dict[str, Any]
    state: str = "running"
    rungs: list[float] = field(default_factory=list)
    types: dict[str, dict[str, float]] = field(default_factory=dict)
    began_unix_s: float = field(default_factory=time.time)
    ended_unix_s: float | None = None
    message: str | None = None

    @property
    def score(self) -> float:
        """The official score over the machine types that are finished; 0 if it failed."""
        return self.rungs[-1] if self.rungs and self.state != "failed" else 0.0


@dataclass(frozen=True)
class Study:
    """A search of one system's settings.

    Attributes
    ----------
    space : what is searched
    data : the data set
    pseudo_anomaly_data : data set of the pseudo-anomalies, if it is another
    machine_types : those that steer it, in the order of the rungs
    seeds : over which a trial's score is averaged
    seed : of the search
    protocol : ``"dev"``, or ``"leave-one-type-out"``
    held_out : the machine type that has no part in it under the protocol ``"leave-one-type-out"``
    description : everything that its course depends on beside the number of trials
    """

    space: Space
    data: DataSet
    pseudo_anomaly_data: str | None
    machine_types: tuple[str, ...]
    seeds: tuple[int, ...]
    seed: int
    protocol: str
    held_out: str | None
    description: Mapping[str, Any]
    trials: list[Trial] = field(default_factory=list)
    begun: set[int] = field(default_factory=set)  # in this process

    @property
    def system(self) -> str:
        """The name of the system."""
        return self.space.system

    @property
    def key(self) -> str:
        """Its name in the job store."""
        return key_of({**self.description, "format": _FORMAT})

    @property
    def file(self) -> str:
        """The name of its record in the job store."""
        return f"searches/{self.key}.json"

    @property
    def finished(self) -> list[Trial]:
        """The trials that are over, in order."""
        return [trial for trial in self.trials if trial.state != "running"]

    def begin(self, parameters: dict[str, Any]) -> Trial:
        """Return the trial that draws ``parameters``: the first of those to go on with, or a new one."""
        for trial in self.trials:
            if trial.state == "running" and trial.number not in self.begun:
                break
        else:
            trial = Trial(len(self.trials), parameters)
            self.trials.append(trial)
        self.begun.add(trial.number)
        return trial

    def best(self) -> Trial | None:
        """Return the complete trial with the highest score, of equals the first."""
        whole = [trial for trial in self.trials if trial.state == "complete"]
        return max(whole, key=lambda trial: (trial.score, -trial.number), default=None)

    def untuned(self) -> Trial | None:
        """Return the trial of the system untuned, if it is complete."""
        return next((t for t in self.trials if t.number == 0 and t.state == "complete"), None)

    def settings(self, trial: Trial) -> dict[str, Any]:
        """Return all settings of the system in a trial."""
        return {**self.space.start, **trial.parameters}

    def load(self, store: JobStore) -> None:
        """Take over the trials of a stored record; those that were under way begin anew."""
        if store.root.exists(self.file):
            self.trials[:] = [Trial(**trial) for trial in store.root.read_json(self.file)["trials"]]
            for trial in self.trials:
                if trial.state == "running":
                    trial.rungs.clear()
                    trial.types.clear()

    def save(self, store: JobStore) -> None:
        """Store the record."""
        best = self.best()
        store.root.write_json(
            self.file,
            {
                "system": self.system,
                "data": self.data.name,
                "subset": "dev",
                "protocol": self.protocol,
                "held_out": self.held_out,
                "pseudo_anomaly_data": self.pseudo_anomaly_data,
                "start": dict(self.space.start),
                "seeds": list(self.seeds),
                "description": dict(self.description),
                "trials_done": len(self.finished),
                "best": None
                if best is None
                else {"number": best.number, "score": best.score, "settings": self.settings(best)},
                "trials": [asdict(trial) for trial in self.trials],
            },
        )

    def optuna_study(self, name: str, storage: optuna.storages.BaseStorage) -> optuna.Study:
        """Return an Optuna study that knows the finished trials.

        Those under way are drawn next, then new ones; the first of a new study is the system untuned.
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
    """Optuna's ``TPESampler``, seeded anew for each trial with (seed, number of the trial)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number = -1
        self._sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed)

    def _of(self, trial: Any) -> optuna.samplers.BaseSampler:
        if trial.number != self._number:
            self._number = trial.number
            seed = (self._seed * 1_000_003 + trial.number) % 2**32
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what Optuna calls experimental
                self._sampler = optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=RANDOM_TRIALS, constant_liar=True
                )
        return self._sampler

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        """Hand over to the sampler of the trial."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
        """Hand over to the sampler of the trial."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """Hand over to the sampler of the trial."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


def _frozen(trial: Trial, space: Space) -> optuna.trial.FrozenTrial:
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
