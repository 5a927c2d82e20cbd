"""The tasks and searches of a run on a Ray cluster, seen from the driver.

The scheduler, an actor, owns the tasks; Ray Tune owns the trials, which ask the scheduler for theirs. The
driver asks for the plain tasks, shows what happens, and keeps the records of the searches.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from asdbench.cluster.connection import Connection
from asdbench.cluster.messages import Outcome
from asdbench.cluster.placement import Placement
from asdbench.cluster.session import PendingTasks, Session
from asdbench.cluster.tasks import WorkerContext
from asdbench.config import Compile
from asdbench.data.node_copies import reads_over_network
from asdbench.driver.progress import ProgressDisplay
from asdbench.driver.run_status import RunMonitor, StatusWriter
from asdbench.driver.search_progress import SearchProgress, name_of
from asdbench.driver.task_requests import RequestBuilder
from asdbench.engine.claims import HeldClaim, wait_for_claim
from asdbench.engine.events import Failure, Note
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import TrainingTask
from asdbench.io.workspace import Workspace
from asdbench.search.studies import Study, Trial

if TYPE_CHECKING:
    from asdbench.cluster.experiment import Experiment

_POLL_S = 0.2
_OWNER = "run"  # of the plain tasks


class ClusterRun:
    """A run on a connected Ray cluster; a context manager, to be used by one thread.

    Parameters
    ----------
    connection : to the cluster, entered
    store, workspace : where results go, and where data is
    placement : how tasks are spread
    checkpoint_epochs : epochs between checkpoints
    compile : whether training steps are compiled
    expected : number of tasks, if it is known
    display : shows the progress, entered
    monitor : collects what ``asdbench status`` shows
    on_trial : called after each trial, in another thread
    """

    def __init__(
        self,
        connection: Connection,
        store: JobStore,
        workspace: Workspace,
        *,
        placement: Placement,
        checkpoint_epochs: int,
        expected: int | None,
        display: ProgressDisplay,
        monitor: RunMonitor,
        on_trial: Callable[[Study, Trial], None],
        compile: Compile = "auto",
    ) -> None:
        self._store = store
        self._display = display
        self._on_trial = on_trial
        self._run_id = monitor.run.run_id
        home = workspace.home.resolve()
        publishes = not connection.is_local or reads_over_network(home)
        stacks = connection.may_have_gpus and placement.jobs_per_gpu != 1
        self._builder = RequestBuilder(publishes, stacks)
        context = WorkerContext(
            run=self._run_id,
            scheduler=None,
            workspace=replace(workspace, home=home),
            store=store.uri,
            driver=connection.node_id,
            publishes=publishes,
            threads=1,
            checkpoint_epochs=checkpoint_epochs,
            compile=compile,
        )
        self._session = Session(context, placement, expected=expected, may_grow=connection.may_grow)
        self._writer = StatusWriter(store.root, monitor.run, lambda: monitor.status(self._session.status()))

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            opening.enter_context(self._session)
            opening.enter_context(self._writer)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def run(
        self, tasks: Sequence[TrainingTask], *, studies: Sequence[Study] = (), trials: int = 0
    ) -> list[Failure]:
        """Run tasks, and each study to ``trials`` trials; return what failed.

        A task that fails in a trial alone fails that trial.
        """
        requests = [self._builder.request(task, (0, place)) for place, task in enumerate(tasks)]
        pending = self._session.submit(_OWNER, requests)
        with ExitStack() as claims:
            held = {}
            for study in sorted(studies, key=lambda study: study.key):  # the same order in every run
                held[study.key] = claims.enter_context(self._claim(study))
                study.load(self._store)  # the other run may have gone on
            progress = SearchProgress(
                studies, self._store, self._display, trials=trials, on_end=self._on_trial, claims=held
            )
            failures = self._search(progress, trials, pending)
        return self._failures(tasks, pending.outcomes()) + failures

    def _claim(self, study: Study) -> AbstractContextManager[HeldClaim]:
        """Wait until no other run works on a study: two would erase each other's trials.

        Meanwhile the plain tasks of the run go on, and are shown.
        """
        name = name_of(study)

        def show(reason: str) -> None:
            self._display.on_event(Note(f"the search of {name} waits: {reason}"))

        return wait_for_claim(
            self._store.root,
            f"searches/{study.key}",
            run=self._run_id,
            on_wait=show,
            on_retry=self._show_events,
        )

    def _search(self, progress: SearchProgress, trials: int, pending: PendingTasks) -> list[Failure]:
        """Run the studies, and follow the plain tasks meanwhile; return the trials that failed."""
        experiment = self._experiment(progress, trials)
        try:
            while not pending.wait(_POLL_S):
                self._show_events()
                progress.check()
            while experiment is not None and not experiment.wait(_POLL_S):
                self._show_events()
                progress.check()
        finally:
            if experiment is not None and not experiment.wait(0.0):  # interrupted
                experiment.stop()
        self._show_events()
        if experiment is not None and experiment.error is not None:
            raise experiment.error
        return progress.failures

    def _show_events(self) -> None:
        self._writer.check()
        for event in self._session.events():
            self._display.on_event(event)

    def _experiment(self, progress: SearchProgress, trials: int) -> "Experiment | None":
        """Start the trials that the studies lack; ``None`` if they lack none."""
        if all(len(study.finished) >= trials for study in progress.studies.values()):
            return None
        from asdbench.driver.trial_work import start_trials  # Ray Tune takes a second to import

        return start_trials(progress, self._session, self._store, self._builder, trials=trials)

    def _failures(self, tasks: Sequence[TrainingTask], outcomes: Sequence[Outcome]) -> list[Failure]:
        """Return what failed, and what is said to be done and is not in the storage."""
        snapshot = self._store.snapshot()
        failures: list[Failure] = []
        for task, outcome in zip(tasks, outcomes, strict=True):
            if outcome.kind != "ok":
                failures += outcome.failures or (Failure(task.label, outcome.message, bad_input=False),)
            elif not snapshot.is_done(task):
                message = (
                    f"its results were written and are not in the storage {str(self._store.root)!r}; see "
                    f"that it is there, then run the same command again"
                )
                failures.append(Failure(task.label, message, bad_input=False))
        return failures
