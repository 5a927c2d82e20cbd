"""All studies of a sweep in one Ray Tune experiment: Optuna suggests, ASHA stops, and start-up is paid once.

Each study has an ``OptunaSearch`` and an ``ASHAScheduler`` of its own; the experiment's trials are handed to
them by the study that they belong to, those of the study with the fewest trials next. A trial's time is the
number of machine types that it has finished.

Tune keeps nothing: what a study knows is in its record, and the tasks of its trials are in the job store.

Source: L. Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020 (ASHA).
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends the run, not only the experiment
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from asdbench.cluster.trials import Report, TrialWork, run_trial
from asdbench.config import SettingValue

if TYPE_CHECKING:
    import optuna
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial as TuneTrial

_PRUNED_FROM = 5  # trials: a search of fewer prunes nothing
_HALVING = 2
_FIRST_RUNG = 2  # machine types: one alone says little
_PARTING_S = 5.0  # for Tune to end its trials
_RESTARTS = 5  # of a trial whose process is lost, or whose tasks fail by the fault of the cluster
_FEW_TRIALS = 8  # at a time, on a cluster that they fill
_TRIAL_BYTES = 250e6  # of memory for a trial's process


@dataclass(frozen=True)
class Course:
    """A study as Ray Tune sees it.

    Attributes
    ----------
    name : of the study
    search : suggests parameters and receives scores
    trials : how many are to be run
    rungs : scores that a trial reports before it is complete
    """

    name: str
    search: OptunaSearch
    trials: int
    rungs: int


class TrialObserver(Protocol):
    """Follows the trials of an experiment, in the driver; called by the experiment's thread."""

    def begin(self, study: str, trial: str, parameters: Mapping[str, object]) -> int:
        """Note that a trial begins; return its number in the study."""

    def report(self, trial: str, report: Report) -> None:
        """Note what a trial reports."""

    def end(self, trial: str, error: str | None) -> None:
        """Note that a trial has ended, by an error if one is given."""


def trials_at_a_time(capacity: int, courses: Sequence[Course], *, memory_bytes: float) -> int:
    """Return how many trials are to be under way to keep ``capacity`` workers busy.

    >>> trials_at_a_time(2, [], memory_bytes=16e9), trials_at_a_time(256, [], memory_bytes=1e12)
    (2, 257)
    """
    types = max((course.rungs for course in courses), default=1)
    wanted = max(min(capacity, _FEW_TRIALS), -(-capacity // types) + (capacity > _FEW_TRIALS))
    return max(1, min(wanted, int(memory_bytes / _TRIAL_BYTES)))


class Experiment:
    """A Ray Tune experiment that runs in a thread of its own, since in the main thread it takes Ctrl-C.

    Parameters
    ----------
    courses : the studies
    work : what a trial does
    observer : follows the trials
    scheduler : handle of the scheduler that the trials ask for their tasks
    node : id of the driver's node, where trials run: only there are labels
    at_a_time : number of trials under way at most
    """

    def __init__(
        self,
        courses: Sequence[Course],
        work: TrialWork,
        observer: TrialObserver,
        scheduler: Any,
        *,
        node: str,
        at_a_time: int,
    ) -> None:
        self.error: BaseException | None = None
        self._stop = threading.Event()
        # without a CPU: trials that take one could starve the tasks that they wait for
        resources = tune.PlacementGroupFactory(
            [{"memory": 1 << 20}], bundle_label_selector=[{"ray.io/node-id": node}]
        )
        trainable = tune.with_resources(
            tune.with_parameters(run_trial, work=work, scheduler=scheduler), resources
        )
        search = _Searches(courses, observer.begin, self._stop)
        fit = partial(self._fit, trainable, search, courses, _Callback(observer, scheduler), at_a_time)
        self._thread = threading.Thread(target=fit, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait at most so long for its end; return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Begin no more trials, and wait a little for those under way to end."""
        self._stop.set()
        self._thread.join(_PARTING_S)
        if self._thread.is_alive():  # what Tune says of trials that end with their cluster is no news
            logging.getLogger("ray").setLevel(logging.CRITICAL)

    def _fit(
        self,
        trainable: Callable[..., None],
        search: "_Searches",
        courses: Sequence[Course],
        callback: tune.Callback,
        at_a_time: int,
    ) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="asdbench-tune-", ignore_cleanup_errors=True) as scratch:
                tune.Tuner(
                    trainable,
                    tune_config=tune.TuneConfig(
                        search_alg=search,
                        scheduler=_Schedulers(courses),
                        num_samples=sum(course.trials for course in courses),
                        max_concurrent_trials=at_a_time,
                        reuse_actors=True,
                    ),
                    run_config=tune.RunConfig(
                        name="sweep",
                        storage_path=scratch,
                        verbose=0,
                        callbacks=[callback],
                        failure_config=tune.FailureConfig(max_failures=_RESTARTS),
                        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0),
                    ),
                ).fit()
        except BaseException as error:
            self.error = error


class _Callback(tune.Callback):
    """Tells the observer what Tune tells."""

    def __init__(self, observer: TrialObserver, scheduler: Any) -> None:
        self._observer, self._scheduler = observer, scheduler

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune keeps a copy to resume from

    def on_trial_result(
        self, iteration: int, trials: list["TuneTrial"], trial: "TuneTrial", result: Report, **_: object
    ) -> None:
        """Hand a report over."""
        self._observer.report(trial.trial_id, result)

    def on_trial_complete(
        self, iteration: int, trials: list["TuneTrial"], trial: "TuneTrial", **_: object
    ) -> None:
        """Note the end of a trial that was complete or stopped."""
        self._end(trial, None)

    def on_trial_error(
        self, iteration: int, trials: list["TuneTrial"], trial: "TuneTrial", **_: object
    ) -> None:
        """Note the end of a trial that is not tried again."""
        error = trial.get_error()
        self._end(trial, str(getattr(error, "cause", None) or error))

    def _end(self, trial: "TuneTrial", error: str | None) -> None:
        self._scheduler.release.remote(trial.trial_id)  # a process that was killed has not
        self._observer.end(trial.trial_id, error)


class _Searches(Searcher):
    """Hands out the trials of all studies, of the one with the fewest next."""

    def __init__(
        self,
        courses: Sequence[Course],
        begin: Callable[[str, str, Mapping[str, object]], int],
        stop: threading.Event,
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._courses = {course.name: course for course in courses}
        self._left = {course.name: course.trials for course in courses}
        self._asked = dict.fromkeys(self._courses, 0)
        self._of: dict[str, str] = {}
        self._begin = begin
        self._stop = stop

    def suggest(self, trial_id: str) -> dict[str, object] | None:
        """Return the next trial's study and parameters."""
        open_ = [name for name in self._courses if self._left[name]]
        if not open_ or self._stop.is_set():
            return cast(dict[str, object], Searcher.FINISHED)
        name = min(open_, key=self._asked.__getitem__)
        self._left[name] -= 1
        self._asked[name] += 1
        self._of[trial_id] = name
        parameters = self._courses[name].search.suggest(trial_id)
        assert parameters is not None
        number = self._begin(name, trial_id, dict(parameters))
        return {"study": name, "number": number, "parameters": parameters}

    def on_trial_result(self, trial_id: str, result: Report) -> None:
        """Hand a rung's score to the study."""
        self._courses[self._of[trial_id]].search.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Report | None = None, error: bool = False) -> None:
        """Hand the end of a trial to the study.

        One that did not reach the last rung was pruned, unless its settings failed; one that ended by an
        error says nothing about its settings.
        """
        course = self._courses[self._of[trial_id]]
        counts = result is not None and (result.get("failed") or result.get("types", 0) >= course.rungs)
        course.search.on_trial_complete(trial_id, result if counts and not error else None, error)

    def __getstate__(self) -> dict[str, object]:
        return {}  # Tune keeps a copy to resume from; a study resumes from its own record

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a study has its own record."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: a study resumes from its own record."""
        raise NotImplementedError("a study resumes from its record in the job store")


class _Schedulers(TrialScheduler):
    """Hands each trial to the scheduler of its study."""

    def __init__(self, courses: Sequence[Course]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._of = {course.name: _scheduler(course) for course in courses}
        self._order = FIFOScheduler()  # type: ignore[no-untyped-call]

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: object) -> bool:
        """Take no others: metric and mode are set."""
        return metric is None and mode is None

    def on_trial_add(self, tune_controller: "TuneController", trial: "TuneTrial") -> None:
        """Hand over."""
        self._for(trial).on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: "TuneController", trial: "TuneTrial") -> None:
        """Hand over."""
        self._for(trial).on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: "TuneController", trial: "TuneTrial", result: Report) -> str:
        """Hand over."""
        return self._for(trial).on_trial_result(tune_controller, trial, result)

    def on_trial_complete(
        self, tune_controller: "TuneController", trial: "TuneTrial", result: Report
    ) -> None:
        """Hand over."""
        self._for(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: "TuneController", trial: "TuneTrial") -> None:
        """Hand over."""
        self._for(trial).on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: "TuneController", **_: object) -> "TuneTrial | None":
        """Return the first trial that waits and has its resources."""
        return self._order.choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """Return a name."""
        return "a scheduler for each study"

    def _for(self, trial: "TuneTrial") -> TrialScheduler:
        return self._of[trial.config["study"]]


def _scheduler(course: Course) -> TrialScheduler:
    if course.trials < _PRUNED_FROM or course.rungs <= _FIRST_RUNG:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return ASHAScheduler(
        time_attr="types",
        metric="score",
        mode="max",
        max_t=course.rungs,
        grace_period=_FIRST_RUNG,
        reduction_factor=_HALVING,
    )


def optuna_search(
    space: "Callable[[optuna.Trial], dict[str, SettingValue]]",
    *,
    name: str,
    storage: "optuna.storages.BaseStorage",
    sampler: "optuna.samplers.BaseSampler",
) -> OptunaSearch:
    """Return Ray Tune's search over an Optuna study that is in ``storage`` already."""
    return OptunaSearch(
        space=space, metric="score", mode="max", study_name=name, storage=storage, sampler=sampler
    )
