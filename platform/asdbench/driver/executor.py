"""Who does the works of a run: this process, or a crew on a Ray cluster, started when it is needed."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class ExecutionOptions:
    """How works are done.

    Attributes
    ----------
    local : in this process, without Ray
    placement : how the works are spread over the cluster
    address : Ray cluster; ``"local"`` starts one for this run and ends it
    checkpoint_epochs : epochs between checkpoints
    dashboard : start Ray's dashboard with a cluster that is started for this run
    """

    local: bool = False
    placement: Placement = field(default_factory=Placement)
    address: str = "local"
    checkpoint_epochs: int = 5
    dashboard: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint_epochs < 1:
            raise InputError(f"--checkpoint-epochs {self.checkpoint_epochs} must be at least 1")
        if self.local and self.placement != Placement():
            raise InputError("--local runs in one process; leave the options that place workers out")


@dataclass(frozen=True)
class Failed:
    """Work that failed: what it was, why, and whether the user's input is to blame."""

    label: str
    message: str
    bad_input: bool


class Executor:
    """Does works and searches; to be used in a ``with`` statement, which ends what was started.

    Parameters
    ----------
    execution : how
    store, workspace : where results go, and where data is
    console : where progress is shown
    prepare_data : builds what the jobs of a trial read
    on_trial : called whenever a trial has ended
    """

    def __init__(
        self,
        execution: ExecutionOptions,
        store: JobStore,
        workspace: Workspace,
        *,
        console: Console,
        prepare_data: Callable[[Sequence[ResolvedJob]], None],
        on_trial: Callable[[Study, Trial], None],
    ) -> None:
        self._execution = execution
        self._store = store
        self._workspace = workspace
        self._console = console
        self._prepare_data = prepare_data
        self._on_trial = on_trial
        self._works: dict[int, TrainingTask] = {}
        self._watch = ProgressDisplay(self._works, console)
        self._connection: Connection | None = None
        self._conductor: Conductor | None = None

    def __enter__(self) -> "Executor":
        self._open = ExitStack()
        return self

    def __exit__(self, *failed: Any) -> None:
        self._open.__exit__(*failed)

    def begin(self) -> None:
        """Begin to start what is needed, which takes seconds, and return meanwhile."""
        if not self._execution.local and self._connection is None:
            from asdbench.cluster.connection import Connection

            self._connection = Connection(self._execution.address, dashboard=self._execution.dashboard)
            import asdbench.driver.conductor  # noqa: F401 - takes seconds too

    def do(
        self, tasks: Iterable[TrainingTask], *, studies: Sequence[Study] = (), trials: int = 0
    ) -> list[Failed]:
        """Do works that are not stored, and run each study to ``trials`` trials; returns what failed."""
        to_do = [task for task in tasks if not self._store.is_done(task)]
        if not to_do and all(len(study.finished) >= trials for study in studies):
            return []
        if self._execution.local:
            failures = self._do_here(to_do)
        else:
            failures = self.conductor(expected=None if studies else len(to_do)).do(
                to_do, studies=studies, trials=trials
            )
        return [
            Failed(label_of(self._works[failure.task], failure.systems), failure.message, failure.bad_input)
            for failure in failures
        ]

    def conductor(self, *, expected: int | None = None) -> "Conductor":
        """Return the conductor of a crew, started if need be; ``expected`` works at most, if known."""
        if self._conductor is None:
            self.begin()
            assert self._connection is not None
            from asdbench.cluster.crew import Crew
            from asdbench.driver.conductor import Conductor

            crew = Crew(
                self._connection,
                self._store,
                self._workspace,
                placement=self._execution.placement,
                checkpoint_epochs=self._execution.checkpoint_epochs,
                expected=expected,
            )
            self._open.enter_context(crew)
            if crew.dashboard is not None:
                print_message(self._console, f"Ray dashboard: {crew.dashboard}")
            self._conductor = Conductor(
                crew,
                self._store,
                self._works,
                self._open.enter_context(self._watch),
                prepare_data=self._prepare_data,
                on_trial=self._on_trial,
            )
        return self._conductor

    def run_weight_studies(
        self, run_study: Callable[[str | None], BatchResult], held_out: Sequence[str | None]
    ) -> list[BatchResult]:
        """Run the weight studies of a fusion search on the cluster, which is started if need be."""
        self.conductor()
        from asdbench.cluster.weight_studies import run_weight_studies

        return run_weight_studies(run_study, held_out)

    def _do_here(self, tasks: Sequence[TrainingTask]) -> list[Failure]:
        from asdbench.engine.local import run_local

        self._works.update(enumerate(tasks))
        with self._watch:
            return run_local(
                tasks,
                self._store,
                checkpoint_epochs=self._execution.checkpoint_epochs,
                on_event=self._watch.tell,
            )
