"""Removal of a registered data set, of the features built from it, and of recordings that asdbench wrote.

Idea
----
Features are named by hashes, so the ones of a data set are found by the clips that they hold. Features that
another registered data set shares stay, and so do recordings that another one is registered from.

Conventions
-----------
Only what asdbench has written is removed: recordings count if `asdbench data get` or `asdbench data demo`
has put them into the data home. The registration goes last, so that the same call finishes a removal that was
interrupted.
"""

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from asdbench.data.digests import note_of
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.data.sets.challenges import CHALLENGES
from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace

_DEMO_FOLDER = re.compile(r"demo-\d+-seed\d+")


@dataclass(frozen=True)
class DataRemoval:
    """What the removal of a data set deletes.

    Attributes
    ----------
    name : name of the data set
    registration : folder of its registration
    features : files of features that no other data set shares
    recordings : folder of its recordings if it is removed, else None
    kept_recordings : folder of its recordings if it stays, else None
    """

    name: str
    registration: Path
    features: tuple[Path, ...]
    recordings: Path | None
    kept_recordings: Path | None

    @property
    def n_feature_bytes(self) -> int:
        """Size of the features."""
        return sum(map(_size, self.features))

    @property
    def n_recording_bytes(self) -> int:
        """Size of the recordings."""
        return 0 if self.recordings is None else sum(map(_size, self.recordings.rglob("*")))


def plan_removal(workspace: Workspace, name: str) -> DataRemoval:
    """Return what `remove` would delete of a data set; nothing is deleted yet.

    A damaged registration can be removed too; its features and recordings are unknown and stay.

    Raises
    ------
    InputError
        No data set has that name.
    """
    registration = workspace.home / "data" / name
    try:
        data = catalog.load(workspace, name)
    except InputError:
        known = catalog.names(workspace)
        if name not in known:
            raise unknown_name("data set", name, known) from None
        return DataRemoval(name, registration, (), None, None)
    others = list(_other_data_sets(workspace, name))
    is_removed = _is_own_folder(workspace, data.root) and not any(
        data.root.is_relative_to(other.root) or other.root.is_relative_to(data.root) for other in others
    )
    kept = None if is_removed else data.root
    recordings = data.root if is_removed else None
    return DataRemoval(name, registration, tuple(sorted(_features(data, others))), recordings, kept)


def remove(removal: DataRemoval) -> None:
    """Delete features, recordings and at last the registration of a data set.

    Raises
    ------
    InputError
        Something cannot be deleted. The data set stays registered; the same call deletes the rest.
    """
    try:
        for path in removal.features:
            path.unlink(missing_ok=True)
            Path(note_of(str(path))).unlink(missing_ok=True)
        if removal.recordings is not None:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(removal.recordings)
        (removal.registration / "dataset.json").unlink(missing_ok=True)
        # its tables, which nothing names any longer
        shutil.rmtree(removal.registration, ignore_errors=True)
        shutil.rmtree(removal.registration.parent.parent / "truth" / removal.name, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"cannot delete {str(error.filename)!r} ({error.strerror}); see that you may write there, then "
            f"run the same command again"
        ) from error


def _other_data_sets(workspace: Workspace, name: str) -> Iterator[DataSet]:
    for other in catalog.names(workspace):
        if other != name:
            with contextlib.suppress(InputError):  # a damaged registration uses nothing
                yield catalog.load(workspace, other)


def _is_own_folder(workspace: Workspace, root: Path) -> bool:
    """Whether asdbench has written the recordings in a folder, and is the only one who does."""
    if root.parent != workspace.home.resolve() / "recordings":
        return False
    is_download = root.name in CHALLENGES and (root / ".archives").is_dir()
    return is_download or _DEMO_FOLDER.fullmatch(root.name) is not None


def _features(data: DataSet, others: Iterable[DataSet]) -> Iterator[Path]:
    """Yield the Arrow files that hold exactly the clips of a machine type of a data set and of no other."""
    used = {ids for other in others for ids in _clips_by_type(other).values()}
    for machine_type, clip_ids in _clips_by_type(data).items():
        if clip_ids not in used:
            for path in sorted((data.workspace.home / "store").glob("*.arrow")):
                if path.name.startswith(f"{machine_type}-") and _clips_in(path) == clip_ids:
                    yield path


def _clips_by_type(data: DataSet) -> dict[str, frozenset[int]]:
    groups = data.clips.group_by("machine_type").agg("clip_id")
    return {machine_type: frozenset(clip_ids) for machine_type, clip_ids in groups.iter_rows()}


def _clips_in(path: Path) -> frozenset[int] | None:
    """Return the ids of the clips in an Arrow file of features, None if it cannot be read."""
    try:
        with pa.memory_map(str(path)) as source:
            metadata = pa.ipc.open_file(source).schema.metadata
        return frozenset(np.frombuffer(metadata[b"clip_id"], np.int64).tolist())
    except (OSError, TypeError, LookupError, ValueError, pa.ArrowException):
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0
