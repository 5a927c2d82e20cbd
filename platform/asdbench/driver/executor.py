"""The executor of a run's tasks and searches: this process, or a Ray cluster that is started on demand."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console

from asdbench.cluster.placement import Placement
from asdbench.driver.progress import ProgressDisplay, label_of
from asdbench.engine.events import Failure
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.formatting import print_message
from asdbench.search.fusion import BatchResult
from asdbench.search.studies import Study, Trial

if TYPE_CHECKING:
    from asdbench.cluster.connection import Connection
    from asdbench.driver.conductor import Conductor


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutionOptions:
    """Where and how tasks run.

    Attributes
    ----------
    local : run in this process, without Ray
    placement : the workers on the cluster
    address : address of a Ray cluster; ``"local"`` starts one for the run and stops it at the end
    checkpoint_epochs : epochs between checkpoints
    dashboard : whether a cluster that is started for the run gets Ray's dashboard

    >>> ExecutionOptions(checkpoint_epochs=0)
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: --checkpoint-epochs 0 is too small; give at least 1
    """

    local: bool = False
    placement: Placement = field(default_factory=Placement)
    address: str = "local"
    checkpoint_epochs: int = 5
    dashboard: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint_epochs < 1:
            raise InputError(f"--checkpoint-epochs {self.checkpoint_epochs} is too small; give at least 1")
        if self.local and self.placement != Placement():
            raise InputError(
                "--local runs in one process, without workers; drop --local, or drop --workers, "
                "--workers-per-type and --gpus-per-worker"
            )


@dataclass(frozen=True)
class FailedTask:
    """A failed task.

    Attributes
    ----------
    label : machine type, systems and seed
    message : the cause, for the user
    bad_input : whether the user's input is the cause
    """

    label: str
    message: str
    bad_input: bool


class Executor:
    """Runs tasks and searches; a context manager, which stops at the end what it has started.

    Parameters
    ----------
    options : where and how tasks run
    store, workspace : where results go, and where data is
    console : where to show progress
    prepare_data : builds the features that the jobs of a trial read
    on_trial : called after each trial
    """

    def __init__(
        self,
        options: ExecutionOptions,
        store: JobStore,
        workspace: Workspace,
        *,
        console: Console,
        prepare_data: Callable[[Sequence[ResolvedJob]], None],
        on_trial: Callable[[Study, Trial], None],
    ) -> None:
        self._options = options
        self._store = store
        self._workspace = workspace
        self._console = console
        self._prepare_data = prepare_data
        self._on_trial = on_trial
        self._tasks: dict[int, TrainingTask] = {}
        self._display = ProgressDisplay(self._tasks, console)
        self._connection: Connection | None = None
        self._conductor: Conductor | None = None

    def __enter__(self) -> Self:
        self._open = ExitStack()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def warm_up(self) -> None:
        """Start to connect the cluster in the background, because that takes seconds."""
        if not self._options.local and self._connection is None:
            from asdbench.cluster.connection import Connection

            logger.info("connecting a Ray cluster: %s", self._options.address)
            self._connection = Connection(self._options.address, dashboard=self._options.dashboard)
            import asdbench.driver.conductor  # noqa: F401 - its import takes seconds, too

    def run(
        self, tasks: Iterable[TrainingTask], *, studies: Sequence[Study] = (), trials: int = 0
    ) -> list[FailedTask]:
        """Run the tasks that are not finished, and each study up to ``trials`` trials; return what failed."""
        to_do = [task for task in tasks if not self._store.is_done(task)]
        if not to_do and all(len(study.finished) >= trials for study in studies):
            return []
        logger.info("tasks to run: %d, studies: %d", len(to_do), len(studies))
        if self._options.local:
            failures = self._run_locally(to_do)
        else:
            failures = self._connected(expected=None if studies else len(to_do)).do(
                to_do, studies=studies, trials=trials
            )
        return [
            FailedTask(
                label_of(self._tasks[failure.task], failure.systems), failure.message, failure.bad_input
            )
            for failure in failures
        ]

    def _connected(self, *, expected: int | None = None) -> "Conductor":
        """Return the conductor of the cluster's workers, which are started on first use.

        ``expected`` is the largest number of tasks, if that is known.
        """
        if self._conductor is None:
            self.warm_up()
            assert self._connection is not None
            from asdbench.cluster.crew import Crew
            from asdbench.driver.conductor import Conductor

            crew = Crew(
                self._connection,
                self._store,
                self._workspace,
                placement=self._options.placement,
                checkpoint_epochs=self._options.checkpoint_epochs,
                expected=expected,
            )
            self._open.enter_context(crew)
            if crew.dashboard is not None:
                print_message(self._console, f"Ray dashboard: {crew.dashboard}")
            self._conductor = Conductor(
                crew,
                self._store,
                self._tasks,
                self._open.enter_context(self._display),
                prepare_data=self._prepare_data,
                on_trial=self._on_trial,
            )
        return self._conductor

    def run_weight_studies(
        self, run_study: Callable[[str | None], BatchResult], held_out: Sequence[str | None]
    ) -> list[BatchResult]:
        """Run the weight studies of a fusion search on the cluster, which is started on first use."""
        self._connected()
        from asdbench.cluster.weight_studies import run_weight_studies

        return run_weight_studies(run_study, held_out)

    def _run_locally(self, tasks: Sequence[TrainingTask]) -> list[Failure]:
        from asdbench.engine.local import run_local

        self._tasks.update(enumerate(tasks))
        with self._display:
            return run_local(
                tasks,
                self._store,
                checkpoint_epochs=self._options.checkpoint_epochs,
                on_event=self._display.on_event,
            )
