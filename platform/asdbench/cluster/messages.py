"""What drivers, trials, the scheduler and Ray tasks send to each other: plain data that is cheap to import.

The scheduler's process imports no torch, so what only workers understand travels as bytes.
"""

from dataclasses import dataclass
from typing import Literal

from asdbench.engine.events import Failure

Kind = Literal[
    "ok",
    "user",
    "infrastructure",
    "death",
    "claimed",
    "misplaced",
    "preempted",
    "inseparable",
    "released",
]


@dataclass(frozen=True)
class GpuUse:
    """What a process took of a GPU while it worked on jobs.

    Attributes
    ----------
    total_bytes : memory of the GPU
    peak_bytes : most of it that torch held for the jobs
    busy : mean share of the time in which the GPU computed, for whatever process; ``None`` if unknown
    jobs : how many jobs the process worked on at a time
    """

    total_bytes: int
    peak_bytes: int
    busy: float | None
    jobs: int


@dataclass(frozen=True)
class FeatureRequest:
    """A request to build the features of one machine type, unless they are stored.

    Attributes
    ----------
    key : the same features have the same key
    label : the features, for people
    content : pickled :class:`asdbench.data.feature_store.FeatureSpec`
    on_driver : whether only the driver's node can read the recordings
    takes_gpu : whether a GPU builds them sooner
    """

    key: str
    label: str
    content: bytes
    on_driver: bool
    takes_gpu: bool = False


@dataclass(frozen=True)
class TaskRequest:
    """A request to train and score the jobs of one task.

    Attributes
    ----------
    key : the same jobs have the same key
    training : key of the training; two tasks of one training never run at the same time
    label : the task, for people
    systems : names of its systems
    priority : the lowest runs first
    content : pickled list of the jobs, each with its keys in the job store
    features : what the task reads; it waits until these are built
    attempt : number of the attempt at it
    stack : tasks with the same one can train as one stacked model; ``None`` if it cannot be stacked
    """

    key: str
    training: str
    label: str
    systems: tuple[str, ...]
    priority: tuple[float, ...]
    content: bytes
    features: tuple[FeatureRequest, ...] = ()
    attempt: int = 0
    stack: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a task ended.

    Attributes
    ----------
    kind
        ``"ok"``; ``"user"``: the input or the system is to blame, so it is not tried again;
        ``"infrastructure"``: the node, the disk, the network or the storage is, so another node tries;
        ``"death"``: its process died; ``"claimed"``: another run works on the same training;
        ``"misplaced"``: it ran without a GPU on a node that has one; ``"preempted"``: it stopped at a
        checkpoint, to go on with more processes; ``"inseparable"``: it failed together with the
        other tasks of its stack, and each is tried alone to find the one to blame; ``"released"``: nobody
        waits for it any longer
    node, host : id and host name of the node, empty if unknown
    failures : what failed, for the user
    message : the reason in one line, for logs
    content : pickled result of a task that builds features: the list of copies that other nodes need
    is_memory : whether memory was used up, for which the task may be to blame as well as the node
    gpu : what its process took of a GPU, if it had one
    """

    kind: Kind
    node: str = ""
    host: str = ""
    failures: tuple[Failure, ...] = ()
    message: str = ""
    content: bytes = b""
    is_memory: bool = False
    gpu: GpuUse | None = None
