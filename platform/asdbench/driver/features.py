"""Features that jobs read, built ahead of training."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console

from asdbench.data import feature_store
from asdbench.data.sets import catalog
from asdbench.driver.progress import progress
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError
from asdbench.report.formatting import print_message, print_note

if TYPE_CHECKING:
    pass
from asdbench.driver.request import by_data_set


def build_features(jobs: Sequence[ResolvedJob], *, console: Console) -> None:
    """Build what the jobs' systems read and the store does not hold yet, with progress and its cost."""
    wanted = by_data_set(
        (data, (machine, part.input_spec.mel, part.input_spec.window_frames))
        for resolved in jobs
        for part in resolved.parts
        for data, machine in part.machine_types_read
    )
    missing = [(data, found) for data, specs in wanted if (found := feature_store.missing(data, specs))]
    if not missing:
        return
    size = sum(feature_store.bytes_to_build(data, specs) for data, specs in missing)
    _check_disk(size, jobs[0].data.workspace.home)
    for data, _ in missing:
        for note in catalog.describe(data).notes:
            print_note(console, note)
    print_message(
        console, f"features: {sum(len(specs) for _, specs in missing)} to build, {size / 1e6:,.0f} MB"
    )
    with progress(console) as bars:
        for data, machine, spec, least in ((data, *spec) for data, specs in missing for spec in specs):
            clips = data.clips.filter(pl.col("machine_type") == machine).height
            task = bars.add_task(f"{machine} waveforms", total=clips, detail="")
            feature_store.waveforms(data, machine, progress=partial(bars.advance, task))
            bars.update(task, completed=clips)  # they may have been there
            task = bars.add_task(f"{machine} log-mel", total=clips, detail="")
            feature_store.mels(data, machine, spec, min_frames=least, progress=partial(bars.advance, task))


def _check_disk(needed: int, place: Path) -> None:

    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < 2.2 * needed:  # the scratch file beside the final one
        raise InputError(
            f"the features need {2.2 * needed / 1e6:,.0f} MB in {str(place)!r} while they are built and "
            f"{free / 1e6:,.0f} MB are free; make room or set ASDBENCH_HOME to another disk"
        )
