"""The files of a result that is imported: from a folder or a zip, which may be damaged or hostile."""

import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from asdbench.errors import InputError
from asdbench.report.result_folder import (
    RESULT_FILE,
    SEED_FOLDER,
    ResultFile,
    changed_files,
    read_result_file,
)

_MOST_BYTES = 200_000_000
_MOST_FILES = 20_000
_BROKEN_ZIP = (  # what reading a damaged zip, or writing what it holds, raises
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
)


@contextmanager
def opened_result(path: Path) -> Iterator[Path]:
    """Give the folder, or a temporary one with the files of a zip."""
    if path.is_dir():
        yield path
    elif not path.is_file():
        raise InputError(
            f"{str(path)!r} is neither a folder nor a zip file; give one with anomaly_score_*.csv"
        )
    else:
        with tempfile.TemporaryDirectory(prefix="asdbench-import-") as temporary:
            _unzip(path, Path(temporary))
            yield Path(temporary)


def _unzip(path: Path, folder: Path) -> None:
    """Write the CSV files of a zip, and ``result.json``, as regular files into a folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                member
                for member in archive.infolist()
                if member.filename.endswith(".csv") or PurePosixPath(member.filename).name == RESULT_FILE
            ]
            _check_members(path, members)
            for member in members:
                file = folder / member.filename
                file.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as content:
                    _write(file, content.read(_MOST_BYTES + 1), path)
    except InputError:
        raise
    except _BROKEN_ZIP as error:
        raise InputError(f"{str(path)!r} is not a zip file that can be read ({error})") from error


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in member.filename:
            raise InputError(f"{str(path)!r} has the path {member.filename!r}, which leads out of the zip")
    names = [member.filename for member in members]
    twice = (
        next((name for name in names if names.count(name) > 1), None)
        if len(set(names)) < len(names)
        else None
    )
    if twice is not None:
        raise InputError(f"{str(path)!r} has {twice!r} twice; give a zip with each file once")
    if len(members) > _MOST_FILES or sum(member.file_size for member in members) > _MOST_BYTES:
        raise InputError(
            f"{str(path)!r} is too large; give a zip with at most {_MOST_FILES:,} CSV files and "
            f"{_MOST_BYTES // 10**6} MB of them"
        )


def _write(file: Path, content: bytes, archive: Path) -> None:
    if len(content) > _MOST_BYTES:
        raise InputError(f"{str(archive)!r} is too large: {file.name} has more bytes than it says")
    file.write_bytes(content)


def own_record(folder: Path) -> ResultFile | None:
    """Return what the only ``result.json`` in a folder says; ``None`` if there is not exactly one.

    Raises :class:`InputError` if one has checksums that differ from a file.
    """
    records = [(path, read_result_file(path.parent)) for path in sorted(folder.rglob(RESULT_FILE))]
    for path, record in records:
        problems = changed_files(path.parent, record)
        if problems:
            raise InputError(f"{str(path)!r}: {problems[0]}; get the result again, or remove {RESULT_FILE}")
    return records[0][1] if len(records) == 1 else None


def run_folders(folder: Path) -> dict[int | None, Path]:
    """Return the folders with score files by seed; the key of a single run of unknown seed is ``None``."""
    folders = sorted({path.parent for path in folder.rglob("anomaly_score_*.csv")})
    seeds = {int(path.name[5:]): path for path in folders if SEED_FOLDER.fullmatch(path.name)}
    if folders and len(seeds) == len(folders) and len({path.parent for path in folders}) == 1:
        return dict(sorted(seeds.items()))
    if len(folders) == 1:
        return {None: folders[0]}
    if not folders:
        raise InputError(
            "there is no score file, such as anomaly_score_fan_section_00_test.csv, in the folder or zip"
        )
    names = ", ".join(str(path.relative_to(folder)) for path in folders[:6])
    raise InputError(f"several folders have score files: {names}; give one of them")
