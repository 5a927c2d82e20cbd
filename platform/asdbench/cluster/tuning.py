"""All studies of a sweep in one Ray Tune experiment: Optuna suggests, ASHA stops, and start-up is paid once.

Each study has an ``OptunaSearch`` and an ``ASHAScheduler`` of its own; the experiment's trials are handed to
them by the study that they belong to, those of the study with the fewest trials next. A trial's time is the
number of machine types that it has finished.

Tune keeps nothing: what a study knows is in its record, and the tasks of its trials are in the job store.

Source: L. Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020 (ASHA).
"""

import logging
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from asdbench.cluster.trial import TrialConfig, follow
from asdbench.config import SettingValue

if TYPE_CHECKING:
    import optuna
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial as TuneTrial

    from asdbench.cluster.board import BoardHandle

Parameters: TypeAlias = dict[str, object]  # setting name to value
Report: TypeAlias = dict[str, object]  # what Ray Tune makes of a trial's report

_PRUNED_FROM = 5  # trials: a search of fewer prunes nothing
_HALVING = 2
_FIRST_RUNG = 2  # machine types: one alone says little
_PARTING_S = 5.0  # for Tune to end its trials
_RESTARTS = 20  # of a trial whose process is lost with its host


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


@dataclass(frozen=True)
class Asked:
    """A trial that begins: its id, its study and its parameters."""

    trial: str
    course: str
    parameters: Parameters


@dataclass(frozen=True)
class Over:
    """A trial that has ended, with its last report, if any."""

    trial: str
    course: str
    result: Report | None


class Tuning:
    """A Ray Tune experiment that runs in a thread of its own.

    Parameters
    ----------
    courses : the studies
    trainable : what a trial runs
    at_a_time : number of trials under way at most

    ``messages`` yields what has happened since it was last asked: trials that begin and trials that end.
    """

    def __init__(
        self, courses: Sequence[Course], trainable: Callable[[TrialConfig], None], *, at_a_time: int
    ) -> None:
        self._queue: queue.SimpleQueue[Asked | Over] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.error: BaseException | None = None
        search = _Searches(courses, self._queue.put, self._stop)
        count = sum(course.trials for course in courses)
        self._thread = threading.Thread(
            target=self._fit, args=(search, courses, trainable, count, at_a_time), daemon=True
        )
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it is still under way, or has messages that were not read."""
        return self._thread.is_alive() or not self._queue.empty()

    def messages(self) -> Iterator[Asked | Over]:
        """Yield what has happened since the last call."""
        while not self._queue.empty():
            yield self._queue.get()

    def stop(self) -> None:
        """Begin no more trials, and wait a little for those under way to end."""
        self._stop.set()
        self._thread.join(_PARTING_S)
        if self._thread.is_alive():  # what Tune says of trials that end with their cluster is no news
            logging.getLogger("ray").setLevel(logging.CRITICAL)

    def _fit(
        self,
        search: "_Searches",
        courses: Sequence[Course],
        trainable: Callable[[TrialConfig], None],
        count: int,
        at_a_time: int,
    ) -> None:
        scratch = tempfile.mkdtemp(prefix="asdbench-tune-")
        # without a CPU: drivers that take one could starve the workers that they wait for
        light = tune.with_resources(trainable, tune.PlacementGroupFactory([{"memory": 1 << 20}]))
        try:
            tune.Tuner(
                light,
                tune_config=tune.TuneConfig(
                    search_alg=search,
                    scheduler=_Schedulers(courses),
                    num_samples=count,
                    max_concurrent_trials=at_a_time,
                    reuse_actors=True,
                ),
                run_config=tune.RunConfig(
                    name="sweep",
                    storage_path=scratch,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=_RESTARTS),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0),
                ),
            ).fit()
        except BaseException as error:
            self.error = error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class _Searches(Searcher):
    """Hands out the trials of all studies, of the one with the fewest next."""

    def __init__(
        self, courses: Sequence[Course], tell: Callable[[Asked | Over], None], stop: threading.Event
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._courses = {course.name: course for course in courses}
        self._left = {course.name: course.trials for course in courses}
        self._asked = dict.fromkeys(self._courses, 0)
        self._of: dict[str, str] = {}
        self._tell = tell
        self._stop = stop

    def suggest(self, trial_id: str) -> Parameters | None:
        """Return the next trial's study and parameters."""
        open_ = [name for name in self._courses if self._left[name]]
        if not open_ or self._stop.is_set():
            return cast(Parameters, Searcher.FINISHED)
        name = min(open_, key=self._asked.__getitem__)
        self._left[name] -= 1
        self._asked[name] += 1
        self._of[trial_id] = name
        course = self._courses[name]
        parameters = course.search.suggest(trial_id)
        assert parameters is not None
        self._tell(Asked(trial_id, name, dict(parameters)))
        number = self._asked[name] - 1
        return {"course": name, "number": number, "rungs": course.rungs, "parameters": parameters}

    def on_trial_result(self, trial_id: str, result: Report) -> None:
        """Hand a rung's score to the study."""
        self._courses[self._of[trial_id]].search.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Report | None = None, error: bool = False) -> None:
        """Hand the end of a trial to the study: one that did not reach the last rung was pruned."""
        course = self._courses[self._of[trial_id]]
        whole = result is not None and cast(int, result.get("types", 0)) >= course.rungs
        course.search.on_trial_complete(trial_id, result if whole else None, error)
        self._tell(Over(trial_id, course.name, result))

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
        return self._of[trial.config["course"]]


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


def following(courses: Sequence[Course], *, board: "BoardHandle", at_a_time: int) -> Tuning:
    """Return the experiment whose trials wait for the scores that the driver puts on the board."""
    return Tuning(courses, tune.with_parameters(follow, board=board), at_a_time=at_a_time)


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
