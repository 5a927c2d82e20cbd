"""Imported results in the list of results, and their removal."""

import re
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from asdbench.errors import InputError, unknown_name
from asdbench.io.workspace import Workspace
from asdbench.report.rendering import Row
from asdbench.report.result_folder import RESULT_FILE, ResultFile, changed_files, read_result_file

IMPORTED = "imported"
CHANGED = "imported, damaged"  # its files are not those that were imported
_SCORES = re.compile(r"anomaly_score_(.+)_section_[^_]+_test\.csv")


def imported_list_rows(workspace: Workspace) -> list[Row]:
    """Return a row for each imported result, with the keys of `asdbench.report.result_list.list_rows`.

    ``system`` is its name, ``subset`` has all that it scores, ``state`` is `IMPORTED` or `CHANGED`, and
    ``finished`` is when it was imported. A run counts as a result for each machine type.
    """
    return [_row(folder) for folder in _folders(workspace)]


def of_selection(rows: Iterable[Row], *, data: str | None, systems: Sequence[str]) -> list[Row]:
    """Return the rows on a data set and of some names; ``None`` and an empty choice mean all.

    >>> of_selection([{"data": "demo", "system": "theirs"}], data="demo", systems=["mine"])
    []
    """
    return [row for row in rows if data in (None, row["data"]) and (not systems or row["system"] in systems)]


def imported_folders(workspace: Workspace, data: str, names: Sequence[str]) -> list[Path]:
    """Return the folders of imported results; :class:`InputError` if one does not exist."""
    folders = {folder.name: folder for folder in _folders(workspace) if folder.parent.name == data}
    for name in names:
        if name not in folders:
            raise unknown_name("imported result", name, folders, of=data)
    return [folders[name] for name in dict.fromkeys(names)]


def remove_imported(folders: Iterable[Path]) -> None:
    """Delete the folders of imported results, each of them wholly or not at all."""
    for folder in folders:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            folder.rename(Path(temporary) / folder.name)


def _folders(workspace: Workspace) -> list[Path]:
    return sorted(path.parent for path in (workspace.home / "imported").glob(f"*/*/{RESULT_FILE}"))


def _row(folder: Path) -> Row:
    record, is_intact = _read(folder)
    machine_types = sorted({match[1] for path in record.files if (match := _SCORES.search(path))})
    imported = datetime.fromtimestamp((folder / RESULT_FILE).stat().st_mtime, UTC)
    return {
        "data": folder.parent.name,
        "system": folder.name,
        "settings": {},
        "tuned": None,
        "subset": " ".join(record.subsets),
        "state": IMPORTED if is_intact else CHANGED,
        "seeds": list(record.seeds),
        "machine_types": machine_types,
        "results": len(record.run_folders) * len(machine_types),
        "finished": imported.isoformat(timespec="seconds"),
        "versions": [],
        "other_versions": [],
    }


def _read(folder: Path) -> tuple[ResultFile, bool]:
    """Return what ``result.json`` says, of no file if unreadable, and whether the files are those listed."""
    try:
        record = read_result_file(folder)
        return record, not changed_files(folder, record)
    except InputError:
        return ResultFile(folder.name, folder.parent.name, (), {}), False
