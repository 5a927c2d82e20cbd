"""The executor of a run's tasks and searches: this process, or a Ray cluster that is started on demand."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self, get_args

from rich.console import Console

from asdbench.cluster.placement import Placement, WorkerShape
from asdbench.config import Compile
from asdbench.driver.features import announce_features, build_features
from asdbench.driver.progress import ProgressDisplay
from asdbench.driver.run_status import LocalTasks, RunMonitor, StatusWriter
from asdbench.engine.events import Event, Failure, TaskFinished, TaskReport, TasksQueued, TrainingProgress
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import TrainingTask
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.formatting import print_message
from asdbench.search.fusion import BatchResult
from asdbench.search.studies import Study, Trial

if TYPE_CHECKING:
    from asdbench.cluster.connection import Connection
    from asdbench.driver.cluster_run import ClusterRun


_RAY_STARTUP_S = 9.0  # as measured by benchmarks/bench_startup.py

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
    compile : whether training steps are compiled; ``"auto"``: on GPUs

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
    compile: Compile = "auto"

    def __post_init__(self) -> None:
        if self.checkpoint_epochs < 1:
            raise InputError(f"--checkpoint-epochs {self.checkpoint_epochs} is too small; give at least 1")
        if self.compile not in get_args(Compile):
            raise InputError(f"--compile {self.compile} is not known; give auto, always or never")
        if self.local and self.placement != Placement():
            raise InputError(
                "--local runs in one process, without workers; drop --local, or drop --workers, "
                "--workers-per-type and --jobs-per-gpu"
            )

    @property
    def n_workers(self) -> int | None:
        """Number of worker processes, None on a cluster that is not known yet."""
        if self.local:
            return 1
        if self.placement.workers is not None or self.address != "local":
            return self.placement.workers
        import torch

        cpus = len(os.sched_getaffinity(0))
        node = {"Alive": True, "Resources": {"CPU": cpus, "GPU": torch.cuda.device_count()}}
        return WorkerShape.from_nodes([node], self.placement).capacity

    @property
    def startup_s(self) -> float:
        """Seconds from the plan of a run to the first step, on a quiet machine."""
        return 0.0 if self.local else _RAY_STARTUP_S


class Executor:
    """Runs tasks and searches; a context manager, which stops at the end what it has started.

    Parameters
    ----------
    options : where and how tasks run
    store, workspace : where results go, and where data is
    console : where to show progress
    on_trial : called after each trial, in another thread

    Attributes
    ----------
    options : where and how tasks run
    """

    def __init__(
        self,
        options: ExecutionOptions,
        store: JobStore,
        workspace: Workspace,
        *,
        console: Console,
        on_trial: Callable[[Study, Trial], None],
    ) -> None:
        self.options = options
        self._store = store
        self._workspace = workspace
        self._console = console
        self._on_trial = on_trial
        self._monitor = RunMonitor()
        self._display = ProgressDisplay(console, self._monitor)
        self._connection: Connection | None = None
        self._cluster: ClusterRun | None = None

    def __enter__(self) -> Self:
        self._open = ExitStack()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is KeyboardInterrupt:
            print_message(self._console, "stopping; this takes some seconds")
        self._open.__exit__(kind, error, traceback)

    def warm_up(self) -> None:
        """Start to connect the cluster in the background, because that takes seconds."""
        if not self.options.local and self._connection is None:
            from asdbench.cluster.connection import Connection

            logger.info("connecting a Ray cluster: %s", self.options.address)
            self._connection = Connection(self.options.address, dashboard=self.options.dashboard)

    def run(
        self,
        tasks: Iterable[TrainingTask],
        *,
        expected: int | None = None,
        studies: Sequence[Study] = (),
        trials: int = 0,
    ) -> list[Failure]:
        """Run the tasks that are not finished, and each study up to ``trials`` trials; return what failed.

        Parameters
        ----------
        tasks : the tasks, the first ones first
        expected : number of tasks of the whole run, those that are finished included, if no trials add more
        studies, trials : the searches, and how many trials each is to have
        """
        snapshot = self._store.snapshot()
        to_do = [task for task in tasks if not snapshot.is_done(task)]
        if not to_do and all(len(study.finished) >= trials for study in studies):
            return []
        logger.info("tasks to run: %d, studies: %d", len(to_do), len(studies))
        if self.options.local:
            return self._run_locally(to_do)
        announce_features([resolved for task in to_do for resolved in task.jobs], console=self._console)
        return self._connected(expected=expected).run(to_do, studies=studies, trials=trials)

    def run_weight_studies(
        self, run_study: Callable[[str | None], BatchResult], held_out: Sequence[str | None]
    ) -> list[BatchResult]:
        """Run the weight studies of a fusion search on the cluster, which is started on first use."""
        self._connected()
        from asdbench.cluster.weight_studies import run_weight_studies

        return run_weight_studies(run_study, held_out)

    def _connected(self, *, expected: int | None = None) -> "ClusterRun":
        """Return the run on the cluster, which is connected on first use."""
        if self._cluster is None:
            self.warm_up()
            assert self._connection is not None
            from asdbench.driver.cluster_run import ClusterRun

            self._open.enter_context(self._connection)
            if self._connection.dashboard is not None:
                print_message(self._console, f"Ray dashboard: {self._connection.dashboard}")
            self._cluster = ClusterRun(
                self._connection,
                self._store,
                self._workspace,
                placement=self.options.placement,
                checkpoint_epochs=self.options.checkpoint_epochs,
                compile=self.options.compile,
                expected=expected,
                display=self._open.enter_context(self._display),
                monitor=self._monitor,
                on_trial=self._on_trial,
            )
            self._open.enter_context(self._cluster)
        return self._cluster

    def _run_locally(self, tasks: Sequence[TrainingTask]) -> list[Failure]:
        from asdbench.engine.local import run_local

        build_features([resolved for task in tasks for resolved in task.jobs], console=self._console)
        state = LocalTasks(len(tasks))

        def on_event(event: Event) -> None:
            match event:
                case TaskReport(report=TrainingProgress(step=step, steps=steps)):
                    state.note_progress(event.label, step, steps)
                case TaskFinished():
                    state.note_end(is_failed=bool(event.failures))
            self._display.on_event(event)

        writer = StatusWriter(
            self._store.root, self._monitor.run, lambda: self._monitor.status(state.status())
        )
        with self._display, writer:
            on_event(TasksQueued(len(tasks)))
            return run_local(
                tasks,
                self._store,
                checkpoint_epochs=self.options.checkpoint_epochs,
                compile=self.options.compile,
                on_event=on_event,
            )
