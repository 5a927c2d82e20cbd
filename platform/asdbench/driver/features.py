"""Features that the jobs of a run read, built before training."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl
from rich.console import Console

from asdbench.data import feature_store
from asdbench.data.sets import catalog
from asdbench.driver.progress import progress
from asdbench.driver.request import by_data_set
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError
from asdbench.report.formatting import print_message, print_note

_DISK_FACTOR = 2.2  # a scratch file exists next to the final one while features are built

logger = logging.getLogger(__name__)


def build_features(jobs: Sequence[ResolvedJob], *, console: Console) -> None:
    """Build the features that the jobs read and the store lacks, and show their size and the progress.

    Raises :class:`InputError` if the disk is too full.
    """
    requested = by_data_set(
        (data, (machine_type, part.input_spec.mel, part.input_spec.window_frames))
        for resolved in jobs
        for part in resolved.parts
        for data, machine_type in part.machine_types_read
    )
    missing = [
        (data, to_build) for data, specs in requested if (to_build := feature_store.missing(data, specs))
    ]
    if not missing:
        return
    n_bytes = sum(feature_store.bytes_to_build(data, specs) for data, specs in missing)
    _check_disk(n_bytes, jobs[0].data.workspace.home)
    for data, _ in missing:
        for note in catalog.describe(data).notes:
            print_note(console, note)
    n_types = sum(len(specs) for _, specs in missing)
    print_message(
        console,
        f"building features: {n_types} machine type{'' if n_types == 1 else 's'}, {n_bytes / 1e6:,.0f} MB",
    )
    with progress(console) as bars:
        for data, (machine_type, mel, min_frames) in (
            (data, spec) for data, specs in missing for spec in specs
        ):
            logger.info("building the features of %s in data set %s", machine_type, data.name)
            n_clips = data.clips.filter(pl.col("machine_type") == machine_type).height
            bar = bars.add_task(f"{machine_type} waveforms", total=n_clips, detail="")
            feature_store.waveforms(data, machine_type, progress=partial(bars.advance, bar))
            bars.update(bar, completed=n_clips)  # stored waveforms report no progress
            bar = bars.add_task(f"{machine_type} log-mel", total=n_clips, detail="")
            feature_store.mels(
                data, machine_type, mel, min_frames=min_frames, progress=partial(bars.advance, bar)
            )


def _check_disk(n_bytes: int, home: Path) -> None:
    status = os.statvfs(home)
    n_free = status.f_bavail * status.f_frsize
    if n_free < _DISK_FACTOR * n_bytes:
        raise InputError(
            f"building the features takes {_DISK_FACTOR * n_bytes / 1e6:,.0f} MB in {str(home)!r}, and only "
            f"{n_free / 1e6:,.0f} MB are free; free some space, or set ASDBENCH_HOME to a folder elsewhere"
        )
