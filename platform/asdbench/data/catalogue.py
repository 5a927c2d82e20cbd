"""The catalogue of data sets that this user has registered, under names of their choice.

Conventions
-----------
The data home is ``ASDBENCH_HOME`` or the platform's user data folder. A registration is the folder
``data/<name>/`` in it: ``dataset.json`` and the two parquet tables that it names (clips and truth). The JSON
file is written last and atomically: until then the old registration holds, whatever happens. Recordings stay
where they are and are only read.

A data set's fingerprint covers what a result can depend on (content, machine type, section, split, domain,
attributes, recording, channel policy) and nothing else: not file names, paths, times or labels.
"""

import hashlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import platformdirs
import polars as pl

from asdbench.data.audio import CHANNEL_POLICIES, ChannelPolicy
from asdbench.data.clips import CLIP_SCHEMA, BadFile, Progress, index_folder
from asdbench.data.filenames import SPLITS
from asdbench.data.truth import load_truth, save_truth
from asdbench.errors import InputError, unknown_name
from asdbench.files import read_json, replacing, write_json
from asdbench.spec import SAMPLE_RATE_HZ

_FORMAT = 1
_RECORD = {
    "root": str,
    "channels": str,
    "created": str,
    "licence": str | None,
    "left_out": list,
    "notes": list,
    "clips": str,
    "truth": str,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LICENCE_FILE = re.compile(r"(licen[cs]e|readme)", re.IGNORECASE)
_LICENCE_WORD = re.compile(r"licen[cs]e", re.IGNORECASE)
_PARAGRAPH_END = re.compile(r"\n\s*\n|\n(?=[A-Z][A-Z ]+:)")
_LICENCE_FILE_CHARACTERS = 100_000
_FINGERPRINTED = ("content_hash", "machine_type", "section", "split", "domain", "attributes", "recording")


class BadFolder(InputError):
    """A folder with bad files, which are listed in ``bad``; the message is a summary."""

    def __init__(self, folder: Path, bad: Sequence[BadFile], cure: str) -> None:
        count = "1 bad file" if len(bad) == 1 else f"{len(bad)} bad files"
        super().__init__(f"{count} in {str(folder)!r} (the first: {bad[0].path}: {bad[0].reason}); {cure}")
        self.bad = tuple(bad)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A registered data set.

    Attributes
    ----------
    name, root : its name, and the folder of its recordings
    clips : the clip table (``clips.CLIP_SCHEMA``); it has no labels
    channels : the policy by which a recording of several channels becomes one
    created : when it was registered (UTC)
    licence : what the folder's licence and readme files say about the licence, a line for each place, or None
    left_out : bad files that were left out on request
    notes : what was remarkable when the folder was indexed
    """

    name: str
    root: Path
    clips: pl.DataFrame
    channels: ChannelPolicy
    created: datetime
    licence: str | None
    left_out: tuple[BadFile, ...]
    notes: tuple[str, ...]

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types, sorted."""
        return tuple(self.clips["machine_type"].unique().sort())

    def fingerprint(self, machine_type: str | None = None, *, split: str | None = None) -> str:
        """Return a hash (hex) of the clips of one machine type or all, of one split or both.

        Raises
        ------
        InputError
            The machine type or the split does not exist.
        """
        rows = self.clips
        if machine_type is not None:
            if machine_type not in self.machine_types:
                raise unknown_name("machine type", machine_type, self.machine_types)
            rows = rows.filter(pl.col("machine_type") == machine_type)
        if split is not None:
            if split not in SPLITS:
                raise unknown_name("split", split, SPLITS)
            rows = rows.filter(pl.col("split") == split)
        lines = sorted(json.dumps(row, sort_keys=True) for row in rows.select(_FINGERPRINTED).iter_rows())
        return hashlib.blake2b("\n".join([self.channels, *lines]).encode(), digest_size=32).hexdigest()


@dataclass(frozen=True, eq=False)
class Description:
    """A data set in tables.

    Attributes
    ----------
    counts : machine_type, section, split, domain, clips
    durations : machine_type, split, clips, min_s, median_s, max_s
    formats : machine_type, sample_rate_hz, channels, clips
    attributes : machine_type, split, name, value, clips
    licence : what the folder says about its licence, or None
    notes : remarks of the indexing, and which clips are resampled or reduced to one channel
    """

    counts: pl.DataFrame
    durations: pl.DataFrame
    formats: pl.DataFrame
    attributes: pl.DataFrame
    licence: str | None
    notes: tuple[str, ...]


def home() -> Path:
    """Return the data home: ``ASDBENCH_HOME``, or the platform's folder for user data."""
    return Path(os.environ.get("ASDBENCH_HOME") or platformdirs.user_data_path("asdbench"))


def writable_home() -> Path:
    """Return the data home, made if need be; :class:`InputError` if it cannot be written."""
    place = home()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return place
    except OSError as error:
        raise _unwritable(error) from error


def names() -> list[str]:
    """Return the names of all registered data sets, sorted."""
    return sorted(path.parent.name for path in (home() / "data").glob("*/dataset.json"))


def add(
    name: str,
    folder: Path,
    *,
    channels: ChannelPolicy = "mean",
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> DataSet:
    """Index ``folder`` and register it as ``name``; a data set of that name is replaced.

    Files that are unchanged since they were registered under this name from this folder are not decoded
    again.

    Raises
    ------
    BadFolder
        The folder holds bad files and ``skip_bad`` is not given, or nothing is left without them.
    InputError
        The name, the channel policy or the folder is not valid, or the data home cannot be written.
        Whatever is raised, nothing is registered or changed.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a data set; use letters, digits, '.', '_' and '-'")
    if channels not in CHANNEL_POLICIES:
        raise unknown_name("channel policy", channels, CHANNEL_POLICIES)
    place = writable_home() / "data" / name
    root = folder.resolve()
    index = index_folder(root, previous=_previous_clips(name, root), progress=progress)
    if index.bad and not skip_bad:
        raise BadFolder(root, index.bad, "mend or remove them, or leave them out with --skip-bad")
    if index.clips.is_empty():
        raise BadFolder(root, index.bad, "nothing is left without them: mend them")

    token = uuid.uuid4().hex[:12]
    record: dict[str, Any] = {
        "format": _FORMAT,
        "root": str(root),
        "channels": channels,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "licence": _licence(root, index.clips["machine_type"].unique().sort()),
        "left_out": [asdict(bad) for bad in index.bad],
        "notes": index.notes,
        "clips": f"clips-{token}.parquet",
        "truth": f"truth-{token}.parquet",
    }
    replaced = _tables(name)
    tables = (place / record["clips"], place / record["truth"])
    try:
        with replacing(tables[0]) as temporary:
            index.clips.write_parquet(temporary)
        save_truth(tables[1], index.truth)
        write_json(place / "dataset.json", record)
    except BaseException as error:
        _remove(tables)
        if isinstance(error, OSError):
            raise _unwritable(error) from error
        raise
    _remove(replaced)
    return _data_set(name, record, index.clips)


def load(name: str) -> DataSet:
    """Return the data set ``name``.

    Raises
    ------
    InputError
        No data set has that name, or its registration is damaged.
    """
    record = _record(name)
    path = home() / "data" / name / record["clips"]
    try:
        clips = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _damaged(name, error) from error
    if clips.schema != CLIP_SCHEMA:
        raise _damaged(name, "its clip table has other columns")
    try:
        return _data_set(name, record, clips)
    except (TypeError, ValueError) as error:
        raise _damaged(name, error) from error


def truth(name: str) -> pl.DataFrame:
    """Return the truth table of the data set ``name`` (``truth.TRUTH_SCHEMA``); only judging scores needs it.

    Raises
    ------
    InputError
        No data set has that name, or its registration is damaged.
    """
    return load_truth(home() / "data" / name / _record(name)["truth"])


def changed_files(dataset: DataSet) -> list[str]:
    """Return the paths of clips that are missing or differ in size or modification time; nothing is decoded.

    A file that was exchanged for one of equal size and modification time is not noticed.
    """
    changed = []
    for path, *expected in dataset.clips.select("path", "size_bytes", "mtime_ns").iter_rows():
        try:
            status = (dataset.root / path).stat()
        except OSError:
            changed.append(path)
            continue
        if [status.st_size, status.st_mtime_ns] != expected:
            changed.append(path)
    return sorted(changed)


def describe(dataset: DataSet) -> Description:
    """Count the clips of a data set by what is known of them."""
    clips = dataset.clips
    duration = pl.col("duration_s")

    def counted(table: pl.DataFrame, *columns: str) -> pl.DataFrame:
        return table.group_by(columns).agg(pl.len().alias("clips")).sort(columns)

    durations = clips.group_by("machine_type", "split").agg(
        pl.len().alias("clips"),
        duration.min().alias("min_s"),
        duration.median().alias("median_s"),
        duration.max().alias("max_s"),
    )
    formats = counted(clips, "machine_type", "sample_rate_hz", "channels")
    each_attribute = clips.explode("attributes").drop_nulls("attributes").unnest("attributes")
    return Description(
        counts=counted(clips, "machine_type", "section", "split", "domain"),
        durations=durations.sort("machine_type", "split"),
        formats=formats,
        attributes=counted(each_attribute, "machine_type", "split", "name", "value"),
        licence=dataset.licence,
        notes=(*dataset.notes, *_conversions(formats, dataset.channels)),
    )


def _conversions(formats: pl.DataFrame, policy: ChannelPolicy) -> list[str]:
    """Say which clips are not used as they are."""
    said = []
    for machine_type, sample_rate_hz, channels, clips in formats.iter_rows():
        steps = []
        if channels > 1:
            kept = {"near": "the first", "far": "the last", "mean": "the mean"}[policy]
            steps.append(f"{kept} of {channels} channels is used")
        if sample_rate_hz != SAMPLE_RATE_HZ:
            steps.append(f"{sample_rate_hz} Hz is resampled to {SAMPLE_RATE_HZ} Hz")
        if steps:
            said.append(f"{machine_type}: {clips} clips: {', '.join(steps)}")
    return said


def _record(name: str) -> dict[str, Any]:
    """Read a registration."""
    known = names()
    if name not in known:
        hint = "'asdbench data add' registers a folder"
        raise InputError(f"{unknown_name('data set', name, known)} ({hint})")
    try:
        record = read_json(home() / "data" / name / "dataset.json")
    except (OSError, ValueError) as error:
        raise _damaged(name, error.__cause__ or error) from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise _damaged(name, f"it is not of format {_FORMAT}")
    for key, kind in _RECORD.items():
        if not isinstance(record.get(key), kind):
            raise _damaged(name, f"its {key!r} is missing or of another type")
    return record


def _data_set(name: str, record: dict[str, Any], clips: pl.DataFrame) -> DataSet:
    if record["channels"] not in CHANNEL_POLICIES:
        raise unknown_name("channel policy", record["channels"], CHANNEL_POLICIES)
    return DataSet(
        name=name,
        root=Path(record["root"]),
        clips=clips,
        channels=record["channels"],
        created=datetime.fromisoformat(record["created"]),
        licence=record["licence"],
        left_out=tuple(BadFile(**bad) for bad in record["left_out"]),
        notes=tuple(record["notes"]),
    )


def _tables(name: str) -> list[Path]:
    """Return the table files of a registration, if there is one that can be read."""
    try:
        record = _record(name)
    except InputError:
        return []
    return [home() / "data" / name / record[table] for table in ("clips", "truth")]


def _remove(tables: Iterable[Path]) -> None:
    for table in tables:
        table.unlink(missing_ok=True)


def _previous_clips(name: str, root: Path) -> pl.DataFrame | None:
    """Return the clip table registered as ``name``, if it is whole and of the same folder."""
    try:
        dataset = load(name)
    except InputError:
        return None
    return dataset.clips if dataset.root == root else None


def _licence(root: Path, machine_types: Iterable[str]) -> str | None:
    """Return what is said about the licence, a line each: of all, then of each machine type.

    Of a licence file that is its first paragraph, of a readme every paragraph with the word.
    """
    said = []
    for whose, folder in [
        ("all", root),
        *((machine_type, root / machine_type) for machine_type in machine_types),
    ]:
        for file in sorted(folder.iterdir()):
            if not (_LICENCE_FILE.match(file.name) and file.is_file() and os.access(file, os.R_OK)):
                continue
            with file.open(encoding="utf-8", errors="replace") as text:
                paragraphs = _PARAGRAPH_END.split(text.read(_LICENCE_FILE_CHARACTERS).strip())
            if file.name.lower().startswith("readme"):
                paragraphs = [paragraph for paragraph in paragraphs if _LICENCE_WORD.search(paragraph)]
            else:
                paragraphs = paragraphs[:1]
            said += [f"{whose}: {' '.join(paragraph.split())}" for paragraph in paragraphs]
    return "\n".join(said) or None


def _unwritable(error: OSError) -> InputError:
    place = repr(str(home()))
    return InputError(
        f"cannot write to the data home {place} ({error.strerror or error}); set ASDBENCH_HOME to another"
    )


def _damaged(name: str, why: object) -> InputError:
    cure = "register its folder again with 'asdbench data add'"
    return InputError(f"the registration of data set {name!r} is damaged ({why}); {cure}")
