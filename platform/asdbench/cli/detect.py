"""The commands that use a trained system: export."""

from pathlib import Path

from asdbench.cli.options import (
    Integer,
    StoredOptions,
    Strings,
    Threshold,
    print_line,
    workspace_of_results,
)

DEFAULT_STORED = StoredOptions()


def export(
    system: str,
    *,
    data: str,
    machines: Strings = (),
    seed: Integer = 0,
    stored: StoredOptions = DEFAULT_STORED,
    threshold: Threshold = "empirical",
    output: Path | None = None,
) -> None:
    """Export a system that has been run as a folder that 'asdbench detect' and MLflow score recordings with.

    The folder holds a model of each machine type, its decision thresholds and a data card.

    Parameters
    ----------
    system
        Name of a system that has been run.
    data
        Name of a registered data set.
    machines
        Machine types (default: all).
    seed
        Random seed of the run.
    threshold
        Decision-threshold method, unless 'asdbench detect' chooses another.
    output
        Folder to write (default: detectors/SYSTEM-DATA). An earlier export there is replaced.
    """
    from asdbench.driver.export import ExportRequest, export_system

    request = ExportRequest(system, data, machines, seed, stored.to_stored_runs(), threshold)
    folder = output or Path("detectors") / f"{system}-{data}"
    record = export_system(request, workspace_of_results(), folder)
    n_types = len(record.machines)
    print_line(f"{folder}: {system}, {n_types} machine type{'' if n_types == 1 else 's'}")
