"""Features that the jobs of a run read: what there is to build, and building it in this process."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from asdbench.data import feature_store
from asdbench.data.feature_store import FeatureSpec
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.progress import progress
from asdbench.driver.request import by_data_set
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError
from asdbench.report.formatting import print_message, print_note

_DISK_FACTOR = 2.2  # a scratch file exists next to the final one while features are built

logger = logging.getLogger(__name__)


def announce_features(jobs: Sequence[ResolvedJob], *, console: Console) -> list[tuple[DataSet, FeatureSpec]]:
    """Return the features that the jobs read and the store lacks, and show how much there is to build.

    Raises :class:`InputError` if the disk is too full.
    """
    requested = by_data_set(
        feature for resolved in jobs for part in resolved.parts for feature in part.features
    )
    missing = [
        (data, spec) for data, specs in requested for spec in specs if not feature_store.is_built(data, spec)
    ]
    if not missing:
        return []
    n_bytes = sum(feature_store.bytes_to_build(data, specs) for data, specs in by_data_set(iter(missing)))
    _check_disk(n_bytes, jobs[0].data.workspace.home)
    for data, _ in by_data_set(iter(missing)):
        for note in catalog.describe(data).notes:
            print_note(console, note)
    n_types = len({(data.name, spec.machine_type) for data, spec in missing})
    print_message(
        console,
        f"building features: {n_types} machine type{'' if n_types == 1 else 's'}, {n_bytes / 1e6:,.0f} MB",
    )
    return missing


def build_features(jobs: Sequence[ResolvedJob], *, console: Console) -> None:
    """Build the features that the jobs read and the store lacks, and show their size and the progress.

    Raises :class:`InputError` if the disk is too full.
    """
    missing = announce_features(jobs, console=console)
    if not missing:
        return
    with progress(console) as bars:
        for data, spec in missing:
            logger.info("building the features of %s in data set %s", spec.machine_type, data.name)
            bar = bars.add_task(f"{spec.machine_type} features", total=None, detail="clips")
            feature_store.build(data, spec, device=_device(data, spec), progress=partial(_advance, bars, bar))


def _device(data: DataSet, spec: FeatureSpec) -> str:
    """Return where features are computed; torch is imported only if a GPU would build them sooner."""
    if not feature_store.gains_from_gpu(data, spec):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _advance(bars: Progress, bar: TaskID, clips: int, total: int) -> None:
    bars.update(bar, completed=clips, total=total)


def _check_disk(n_bytes: int, home: Path) -> None:
    status = os.statvfs(home)
    n_free = status.f_bavail * status.f_frsize
    if n_free < _DISK_FACTOR * n_bytes:
        raise InputError(
            f"building the features takes {_DISK_FACTOR * n_bytes / 1e6:,.0f} MB in {str(home)!r}, and only "
            f"{n_free / 1e6:,.0f} MB are free; free some space, or set ASDBENCH_HOME to a folder elsewhere"
        )
