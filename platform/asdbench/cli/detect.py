"""The commands that use a trained system: export."""

from pathlib import Path

from asdbench.cli.options import Integer, StoredOptions, Strings, Threshold
from asdbench.cli.output import print_result

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
    from asdbench.api.models import export as export_system
    from asdbench.api.models import load

    folder = export_system(
        system,
        data=data,
        machines=machines,
        seed=seed,
        **stored.to_arguments(),
        threshold=threshold,
        output=output,
    )
    n_types = len(load(folder).machine_types)
    print_result(f"{folder}: {system}, {n_types} machine type{'' if n_types == 1 else 's'}")
