"""What running tasks report, and what becomes of them: one class for each kind of event."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from asdbench.errors import InfrastructureError, InputError

LOGGERS = ("asdbench", "systems")  # whose records reach the user: the platform and its detection systems


@dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training, at the end of an epoch.

    Attributes
    ----------
    step, steps : finished steps, and the number of all
    epoch : of the current stage
    losses : mean losses and monitors by name
    """

    step: int
    steps: int
    epoch: int
    losses: Mapping[str, float]


@dataclass(frozen=True)
class FeatureProgress:
    """The progress of building features: clips that are finished, and all of them."""

    clips: int
    total: int


@dataclass(frozen=True)
class Note:
    """Something the user should know: a checkpoint that could not be written, a worker that was lost."""

    message: str


@dataclass(frozen=True)
class Waiting:
    """A task waits for a full disk or an unreachable storage: at the start of the wait and once a minute.

    The next report of the task means that the wait is over.
    """

    reason: str


@dataclass(frozen=True)
class LogLine:
    """A log record of a worker, or a line that its code printed.

    Attributes
    ----------
    host : name of the worker's host
    logger : name of the logger; ``"stdout"``, ``"stderr"`` or ``"warnings"`` for a printed line
    level : number of the level, as in :mod:`logging`
    message : the formatted message
    task : the running task, for people; empty if there is none
    printed : whether it is a printed line or a warning rather than a log record
    """

    host: str
    logger: str
    level: int
    message: str
    task: str = ""
    printed: bool = False

    @property
    def place(self) -> str:
        """The host and the task, for people.

        >>> LogLine("host2", "stdout", 20, "hello", "fan my-system seed 0", printed=True).place
        'host2 fan my-system seed 0'
        """
        return f"{self.host} {self.task}".rstrip()


Report: TypeAlias = TrainingProgress | FeatureProgress | Note | Waiting
"""What a running task reports of itself."""


@dataclass(frozen=True)
class Failure:
    """A failed task, or a job of a task whose scoring failed.

    Attributes
    ----------
    label : machine type, systems and seed
    message : the cause, for the user
    bad_input : whether the user's input is the cause, rather than the code of the system or the platform
    """

    label: str
    message: str
    bad_input: bool

    @classmethod
    def from_error(cls, label: str, error: Exception) -> "Failure":
        """Return the failure for ``error``: its message if it is made for users, else the traceback.

        The traceback of an error in a system begins in the system's code.

        >>> Failure.from_error("fan baseline-mse seed 0", InputError("no data set 'x'")).message
        "no data set 'x'"
        """
        if isinstance(error, InputError | InfrastructureError):
            return cls(label, str(error), bad_input=isinstance(error, InputError))
        from asdbench.engine.tracebacks import traceback_of

        return cls(label, traceback_of(error), bad_input=False)


@dataclass(frozen=True)
class TasksQueued:
    """Tasks that were added to those to run; a negative number if nobody needs them any longer."""

    count: int


@dataclass(frozen=True)
class TaskStarted:
    """A task begins to run, on a node of a cluster.

    Attributes
    ----------
    task : key of the task
    label : the task, for people
    node, host : id and host name of the node
    attempt : number of the attempt at the task
    """

    task: str
    label: str
    node: str
    host: str
    attempt: int = 0


@dataclass(frozen=True)
class TaskReport:
    """A report of a running task."""

    task: str
    label: str
    report: Report


@dataclass(frozen=True)
class TaskFinished:
    """The end of a task, with what failed in it."""

    task: str
    label: str
    failures: tuple[Failure, ...] = ()


Event: TypeAlias = TasksQueued | TaskStarted | TaskReport | TaskFinished | Note | LogLine
"""What an executor reports: of a task, or of the workers (a `Note` or a `LogLine`)."""
