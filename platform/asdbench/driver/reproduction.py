"""Reproduces a published table: runs the systems, compares with the printed values, and records the table."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from asdbench import registry
from asdbench.config import assignments
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.data.sets.challenges import named
from asdbench.driver.board import Board
from asdbench.driver.executor import ExecutionOptions
from asdbench.driver.pipeline import run, show_plan
from asdbench.driver.recording import note_left
from asdbench.driver.request import RunRequest
from asdbench.engine.evaluation import labeled_types
from asdbench.engine.job_store import JobStore
from asdbench.engine.result_record import ResultRecord
from asdbench.engine.stored_results import current_results
from asdbench.errors import InputError
from asdbench.io.files import replacing
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard import settings_text
from asdbench.report.published import Reference
from asdbench.report.reproduction import (
    Counterpart,
    Reproduction,
    check_machine_types,
    lines_of,
    published_columns,
)

_SUBSET = "dev"


@dataclass(frozen=True)
class ReproductionRequest:
    """Which published table to reproduce, and with what.

    Attributes
    ----------
    title : name of the table
    challenge : the challenge whose published results are the columns
    counterparts : the columns
    run : the systems with their data, seeds and settings; those of ``counterparts`` on development data
    output : Markdown file to write, ``None`` for none
    """

    title: str
    challenge: str
    counterparts: tuple[Counterpart, ...]
    run: RunRequest
    output: Path | None = None


def reproduce(
    request: ReproductionRequest,
    execution: ExecutionOptions,
    workspace: Workspace,
    *,
    console: Console,
    mlflow_uri: str | None = None,
) -> Reproduction:
    """Run the systems of a published table, compare, and record the result in MLflow.

    Raises
    ------
    InputError
        A name does not exist, the data set has none of the machine types, or the file cannot be written.
    """
    began_ns = time.time_ns()
    references = _checked(request, workspace)
    result = run(request.run, execution, workspace, console=console, mlflow_uri=mlflow_uri)
    table = replace(stored(request, references, workspace), failures=result.failures, notes=result.notes)
    if request.output is not None:
        _write(request.output, table.to_markdown())
    _record(table, request, _Recording(workspace, mlflow_uri, began_ns, console))
    return table


def show_cost(
    request: ReproductionRequest, execution: ExecutionOptions, workspace: Workspace, *, console: Console
) -> None:
    """Print what a reproduction will cost here, without running anything."""
    _checked(request, workspace)
    show_plan(request.run, execution, workspace, console=console)


def _checked(request: ReproductionRequest, workspace: Workspace) -> list[Reference]:
    """Return the published results; :class:`InputError` if they or the machine types do not fit."""
    references = published_columns(request.counterparts, request.challenge, subset=_SUBSET)
    data = catalog.load(workspace, request.run.data)
    check_machine_types(labeled_types(data, subset=_SUBSET), references, data.name)
    return references


def stored(
    request: ReproductionRequest, references: Sequence[Reference], workspace: Workspace
) -> Reproduction:
    """Return the table from stored results."""
    data = catalog.load(workspace, request.run.data)
    records = current_results(data, JobStore.from_workspace(workspace), subset=_SUBSET).records
    systems = [counterpart.system for counterpart in request.counterparts]
    each = registry.configure_each(systems, request.run.settings, preset=request.run.preset)
    columns = [_records_of(each[system], records, request.run.seeds) for system in systems]
    words = [f"--preset {request.run.preset}"] if request.run.preset else []
    words += [f"--set {assignments(request.run.settings)}"] if request.run.settings else []
    return Reproduction(
        request.title,
        data.name,
        request.counterparts,
        tuple(references),
        tuple(dict.fromkeys(request.run.seeds)),
        " ".join(words) or "default settings",
        lines_of(references, columns, machine_types=_machine_types(data, request), rule=data.rule),
    )


def _records_of(
    configured: registry.Configured, records: Sequence[ResultRecord], seeds: Sequence[int]
) -> list[ResultRecord]:
    """Return the results of a system with exactly its settings, the newest last."""
    settings = settings_text(configured.changed())
    return sorted(
        (
            record
            for record in records
            if record.system == configured.name
            and record.seed in seeds
            and settings_text(record.changed_settings) == settings
        ),
        key=lambda record: record.finished,
    )


def _machine_types(data: DataSet, request: ReproductionRequest) -> list[str]:
    """Return the machine types of the table: those of the challenge in the order of a table, then others."""
    labeled = labeled_types(data, subset=_SUBSET)
    chosen = [name for name in labeled if not request.run.machines or name in request.run.machines]
    known = sorted(named(request.challenge).subsets[_SUBSET].machine_types)
    return sorted(chosen, key=lambda name: (name not in known, name))


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written ({error.strerror}); choose another file with --output"
        ) from error


@dataclass(frozen=True)
class _Recording:
    """Where a table is recorded, since when it is being made, and where to say what could not be."""

    workspace: Workspace
    mlflow_uri: str | None
    began_ns: int
    console: Console


def _record(table: Reproduction, request: ReproductionRequest, recording: _Recording) -> None:
    """Record a table as one MLflow run, which a later table of the same request updates."""
    from asdbench.tracking.address import Address
    from asdbench.tracking.recorder import Recorder
    from asdbench.tracking.reproductions import ReproducedTable

    workspace = recording.workspace
    data = catalog.load(workspace, table.data)
    board = Board.from_store(data, JobStore.from_workspace(workspace), subset=_SUBSET)
    recorded = ReproducedTable(
        store=board.store_id,
        data=table.data,
        title=table.title,
        params={
            "systems": [counterpart.system for counterpart in table.counterparts],
            "seeds": list(table.seeds),
            "machine_types": _machine_types(data, request),
            "settings": table.settings,
        },
        metrics=table.metrics(),
        text=table.to_markdown(),
        files={"table.csv": table.to_csv().encode()},
        began_ns=recording.began_ns,
        ended_ns=time.time_ns(),
    )
    recorder = Recorder(workspace, Address.from_workspace(workspace, recording.mlflow_uri))
    recorder.put(recorded.entry(recorder.source))
    note_left(recorder.close(), console=recording.console)
