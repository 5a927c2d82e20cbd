"""Kinds of parameters and groups of options: what the commands share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import CoercionError, Parameter, Token

from asdbench.config import Compile

if TYPE_CHECKING:
    from asdbench.api.runs import Cluster
    from asdbench.report.stored_runs import StoredRunOptions


def parse_integer(_: object, tokens: Sequence[Token]) -> int:
    """Parse a whole number; cyclopts would round a number with a fraction."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise CoercionError(msg=f"{tokens[0].value!r} is not a whole number", token=tokens[0]) from None


def parse_jobs_per_gpu(_: object, tokens: Sequence[Token]) -> "int | Literal['auto']":
    """Parse a whole number or ``auto``."""
    if tokens[0].value == "auto":
        return "auto"
    try:
        return int(tokens[0].value)
    except ValueError:
        msg = f"{tokens[0].value!r} is neither auto nor a whole number from 1 on"
        raise CoercionError(msg=msg, token=tokens[0]) from None


Integer = Annotated[int, Parameter(converter=parse_integer, n_tokens=1)]
JobsPerGpu = Annotated[int | Literal["auto"], Parameter(converter=parse_jobs_per_gpu, n_tokens=1)]
Integers = Annotated[
    tuple[Integer, ...],
    Parameter(consume_multiple=True, negative=(), show_default=lambda values: " ".join(map(str, values))),
]
AnyIntegers = Annotated[
    tuple[Integer, ...], Parameter(consume_multiple=True, negative=(), show_default=False)
]
Strings = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]
Flag = Annotated[bool, Parameter(negative=(), show_default=False)]

MlflowUri = Annotated[
    str | None,
    Parameter(
        help="MLflow server or database (default: MLFLOW_TRACKING_URI, or a database in the data home)."
    ),
]

Subset = Literal["dev", "eval"]
Threshold = Literal["empirical", "gamma", "tail"]
TableFormat = Literal["table", "csv", "json", "markdown"]


@Parameter(name="*")
@dataclass(frozen=True)
class RunOptions:
    """Options of a run.

    Attributes
    ----------
    seeds
        Random seeds; each system runs once per seed: --seeds 0 1 2.
    machines
        Machine types (default: all).
    subset
        Run only machine types that have clips of this subset: dev (development) or eval (evaluation).
    set
        Settings as key=value; each applies to the systems that have it.
    preset
        Named settings of the systems: report (as published), fast (for two CPU cores), demo (for the embedded
        data set), or one that 'asdbench systems' lists; several as fast,robust: the later one counts.
    pseudo_anomalies_from
        Data set whose machine types serve as pseudo-anomalies, for a data set with a single machine type.
    """

    seeds: Integers = (0,)
    machines: Strings = ()
    subset: Subset | None = None
    set: Strings = ()
    preset: str | None = None
    pseudo_anomalies_from: str | None = None

    def to_arguments(self) -> dict[str, Any]:
        """Return the arguments of `asdbench.run` for these options."""
        from asdbench.config import parse_assignments

        return {
            "seeds": self.seeds,
            "machines": self.machines,
            "subset": self.subset,
            "settings": parse_assignments(self.set),
            "preset": self.preset,
            "pseudo_anomalies_from": self.pseudo_anomalies_from,
        }


@Parameter(name="*")
@dataclass(frozen=True)
class ClusterOptions:
    """Options of the Ray cluster and of the storage.

    Attributes
    ----------
    workers
        Largest number of worker processes (default: one per GPU, or as many as share it; one per CPU without
        GPUs).
    workers_per_type
        Number of worker processes that share the training of one machine type (default: 1, or more if there
        are more GPUs than trainings).
    jobs_per_gpu
        Number of trainings that share a GPU, as one stacked model where their architecture is the same, else
        in processes of their own; auto chooses it from the GPU's memory and how busy it is.
    address
        Address of the Ray cluster, or 'local' to start one on this machine (default: RAY_ADDRESS, or local).
    checkpoint_epochs
        Number of epochs between checkpoints.
    dashboard
        Start Ray's dashboard with a cluster that is started for this run, on this machine's loopback address.
    compile
        Compile training steps with torch.compile: on GPUs (auto), always, or never. Results keep their keys.
    storage
        Where results go, and data for other nodes: a folder that all nodes can access, or a URI such as
        s3://bucket/folder (default: ASDBENCH_STORAGE, or the data home).
    """

    workers: Integer | None = None
    workers_per_type: Integer | None = None
    jobs_per_gpu: JobsPerGpu = "auto"
    address: str | None = None
    checkpoint_epochs: Integer = 5
    dashboard: Flag = False
    compile: Compile = "auto"
    storage: str | None = None

    def to_cluster(self) -> "Cluster":
        """Return the workers of a run."""
        from asdbench.api.runs import Cluster

        return Cluster(
            self.workers,
            self.workers_per_type,
            self.jobs_per_gpu,
            self.address,
            self.checkpoint_epochs,
            self.dashboard,
            self.compile,
        )


@Parameter(name="*")
@dataclass(frozen=True)
class SearchOptions:
    """Options of a search.

    Attributes
    ----------
    max_cost
        Search only settings whose change requires at most: retraining (training), rescoring (scoring), or
        refusion (fusion).
    only_settings
        Settings to search (default: all not fixed by --preset or --set).
    protocol
        dev: one search over all machine types. leave-one-type-out: one search per machine type, over all
        other types and evaluated on the one left out.
    search_seed
        Random seed of the search.
    fresh_seeds
        Number of seeds that the search did not see, with which the best trial, the next two and the untuned
        system are trained and scored again; the leaderboard shows these scores.
    """

    max_cost: Literal["training", "scoring", "fusion"] = "training"
    only_settings: Strings = ()
    protocol: Literal["dev", "leave-one-type-out"] = "dev"
    search_seed: Integer = 0
    fresh_seeds: Integer = 3


@Parameter(name="*")
@dataclass(frozen=True)
class StoredOptions:
    """Which runs' stored scores to use.

    Attributes
    ----------
    set
        Settings of the run, as key=value.
    preset
        Named settings of the run.
    pseudo_anomalies_from
        Data set of the run's pseudo-anomalies.
    """

    set: Strings = ()
    preset: str | None = None
    pseudo_anomalies_from: str | None = None

    def to_arguments(self) -> dict[str, Any]:
        """Return the arguments of `asdbench.compare` and its like for these options."""
        from asdbench.config import parse_assignments

        return {
            "preset": self.preset,
            "settings": parse_assignments(self.set),
            "pseudo_anomalies_from": self.pseudo_anomalies_from,
        }

    def to_stored_runs(self) -> "StoredRunOptions":
        """Return the options as reports take them."""
        from asdbench.config import parse_assignments
        from asdbench.report.stored_runs import StoredRunOptions

        return StoredRunOptions(self.preset, parse_assignments(self.set), self.pseudo_anomalies_from)
