"""The catalog of data sets that this user has registered, under names of their choice.

Conventions
-----------
A registration is the folder ``data/<name>/`` of the data home: ``dataset.json`` and the tables that it names:
clips, their paths and fingerprints, and in the folder ``truth/<name>/`` of the data home the truth (see
``truth`` on how they are kept apart). The JSON file is written last and atomically: until then the old
registration holds, whatever happens. Recordings stay in place and are only read.

A registration by a version that knew clips by the bytes of their files is refused, with the command that
registers the recordings again.

A data set's fingerprint covers what a score can depend on (content, machine type, section, split, domain,
attributes, recording, channel policy) and nothing else: not file names, paths,
times, labels or subsets, nor the domains of evaluation test clips, which come with the labels.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypedDict, cast

import polars as pl

from asdbench.data.audio import CHANNEL_POLICIES, ChannelPolicy
from asdbench.data.sets.clips import (
    CLIP_SCHEMA,
    FINGERPRINT_SCHEMA,
    PROBABLE_COPY,
    Progress,
    index_folder,
    index_manifest,
)
from asdbench.data.sets.entries import BadFile
from asdbench.data.sets.layouts import SPLITS, SUBSETS, Layout
from asdbench.data.sets.truth import (
    PATHS_SCHEMA,
    TRUTH_SCHEMA,
    load_private,
    load_truth,
    save_private,
    save_truth,
)
from asdbench.errors import InputError, unknown_name
from asdbench.io.files import read_json, replacing, write_json
from asdbench.io.workspace import Workspace
from asdbench.spec import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from asdbench.metrics import Rule

_FORMAT = 2  # 1 hashed the bytes of files
_TRUTH_FOLDER = "../../truth/"  # of a registration


class _Record(TypedDict):
    """The content of a ``dataset.json``."""

    format: int
    root: str
    channels: ChannelPolicy
    created: str
    license: str | None
    left_out: list[dict[str, str]]
    notes: list[str]
    clips: str
    truth: str
    fingerprints: str
    layout: str | None
    manifest: str | None
    shared_recordings: list[str]


_RECORD_TYPES = {
    "root": str,
    "channels": str,
    "created": str,
    "license": str | None,
    "left_out": list,
    "notes": list,
    "clips": str,
    "truth": str,
    "fingerprints": str,
    "layout": str | None,
    "manifest": str | None,
    "shared_recordings": list,
}
_LABEL_SCHEMA = pl.Schema({"clip_id": pl.Int64(), "anomaly": pl.Boolean(), "domain": pl.Utf8()})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LICENSE_FILE = re.compile(r"(licen[cs]e|readme)", re.IGNORECASE)
_LICENSE_WORD = re.compile(r"licen[cs]e", re.IGNORECASE)
_LICENSE_HEADING = re.compile(r"^licen[cs]e:\s*", re.IGNORECASE)
_PARAGRAPH_END = re.compile(r"\n\s*\n|\n(?=[A-Z][A-Z ]+:)")
_LICENSE_FILE_CHARACTERS = 100_000
_FINGERPRINTED = ("content_hash", "machine_type", "section", "split", "domain", "attributes", "recording")


class BadFolder(InputError):
    """A folder with bad files, folders or rows of tables, listed in ``bad``; the message is a summary."""

    def __init__(self, folder: Path, bad: Sequence[BadFile], cure: str) -> None:
        count = "1 problem" if len(bad) == 1 else f"{len(bad)} problems"
        super().__init__(f"{count} in {str(folder)!r} (the first: {bad[0].path}: {bad[0].reason}); {cure}")
        self.bad = tuple(bad)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A registered data set.

    Attributes
    ----------
    workspace : where the data set is registered
    name, root : name of the data set, and the folder of its recordings
    clips : the clip table (``clips.CLIP_SCHEMA``), without labels
    channels : policy by which a recording of several channels becomes a single one
    created : time of registration (UTC)
    license : license texts found in the folder's license and readme files, one per line, or None
    left_out : bad files that were left out on request
    notes : remarks from indexing the folder
    layout : name of the folder's layout; None for a manifest and for registrations that did not store it
    manifest : the manifest that described the clips, or None
    shared_recordings : sentences on recordings that training and test clips share, which a user has allowed
    """

    workspace: Workspace
    name: str
    root: Path
    clips: pl.DataFrame
    channels: ChannelPolicy
    created: datetime
    license: str | None
    left_out: tuple[BadFile, ...]
    notes: tuple[str, ...]
    layout: str | None = None
    manifest: Path | None = None
    shared_recordings: tuple[str, ...] = ()

    @property
    def add_command(self) -> str:
        """The command that registers the same recordings again, with the same options."""
        words = ["asdbench", "data", "add", self.name, str(self.root), "--channels", self.channels]
        if self.manifest is not None:
            words += ["--manifest", str(self.manifest)]
        elif self.layout is not None:
            words += ["--layout", self.layout]
        if self.left_out:
            words.append("--skip-bad")
        if self.shared_recordings:
            words.append("--allow-shared-recordings")
        return shlex.join(words)

    @property
    def known_files(self) -> set[str]:
        """Paths of the indexed files: clips, and bad files that were left out."""
        return {*self.clips["path"], *(bad.path for bad in self.left_out)}

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types, sorted."""
        return tuple(self.clips["machine_type"].unique().sort())

    @cached_property
    def rule(self) -> "Rule":
        """The scoring rule of the data set."""
        from asdbench.data.sets.challenges import rule_of  # metrics take a second to import

        return rule_of(self.name, layout=self.layout, domains=self.clips["domain"].is_not_null().any())

    @property
    def version(self) -> str | None:
        """Which published version it is, if its name is that of a challenge, such as ``dcase2023``."""
        from asdbench.data.sets.challenges import version_of

        return version_of(self.name)

    def subsets(self, machine_type: str | None = None) -> tuple[str, ...]:
        """Return the subsets that have test clips, of one machine type or of all; dev if there are none."""
        tested = self.clips.filter(pl.col("split") == "test")
        if machine_type is not None:
            tested = tested.filter(pl.col("machine_type") == machine_type)
        present = set(tested["subset"]) or {"dev"}
        return tuple(subset for subset in SUBSETS if subset in present)

    def suffix(self, subset: str) -> str:
        """Return the suffix of a title: the subset, if there is more than dev, and shared recordings."""
        is_named = subset != "dev" or len(self.subsets()) > 1
        parts = [f"{subset} subset"] if is_named else []
        parts += ["shared recordings"] if self.shared_recordings else []
        return f" ({', '.join(parts)})" if parts else ""

    def fingerprint(self, machine_type: str | None = None, *, split: str | None = None) -> str:
        """Return a hash (hex) of the clips of one machine type or all, of one split or both; computed once.

        Raises
        ------
        InputError
            The machine type or the split does not exist.
        """
        if (machine_type, split) not in self._fingerprints:
            self._fingerprints[machine_type, split] = self._fingerprint(machine_type, split)
        return self._fingerprints[machine_type, split]

    @cached_property
    def _fingerprints(self) -> dict[tuple[str | None, str | None], str]:
        return {}

    def _fingerprint(self, machine_type: str | None, split: str | None) -> str:
        rows = self.clips
        if machine_type is not None:
            if machine_type not in self.machine_types:
                raise unknown_name("machine type", machine_type, self.machine_types)
            rows = rows.filter(pl.col("machine_type") == machine_type)
        if split is not None:
            if split not in SPLITS:
                raise unknown_name("split", split, SPLITS)
            rows = rows.filter(pl.col("split") == split)
        hidden = (pl.col("subset") == "eval") & (pl.col("split") == "test")
        rows = rows.with_columns(domain=pl.when(~hidden).then(pl.col("domain")))
        lines = sorted(json.dumps(row, sort_keys=True) for row in rows.select(_FINGERPRINTED).iter_rows())
        return hashlib.blake2b("\n".join([self.channels, *lines]).encode(), digest_size=32).hexdigest()


@dataclass(frozen=True, eq=False)
class Description:
    """Summary tables of a data set.

    Attributes
    ----------
    counts : machine_type, section, subset, split, domain, clips
    durations : machine_type, split, clips, min_s, median_s, max_s
    formats : machine_type, sample_rate_hz, channels, clips
    attributes : machine_type, split, name, value, clips
    license : license texts found in the folder, or None
    notes : remarks from indexing, and which clips are resampled or reduced to one channel
    """

    counts: pl.DataFrame
    durations: pl.DataFrame
    formats: pl.DataFrame
    attributes: pl.DataFrame
    license: str | None
    notes: tuple[str, ...]


def names(workspace: Workspace) -> list[str]:
    """Return the names of all registered data sets, sorted."""
    return sorted(path.parent.name for path in (workspace.home / "data").glob("*/dataset.json"))


def add(
    workspace: Workspace,
    name: str,
    folder: Path,
    *,
    layout: Layout | None = None,
    manifest: Path | None = None,
    channels: ChannelPolicy | None = None,
    skip_bad: bool = False,
    allow_shared_recordings: bool = False,
    progress: Progress | None = None,
) -> DataSet:
    """Index ``folder`` and register it as ``name``, replacing any data set of that name.

    Files that have not changed since they were registered under this name from this folder are not decoded
    again, and the labels that `label` entered for their evaluation clips are kept.

    Parameters
    ----------
    workspace
        Workspace in which to register the data set.
    name
        Name of the data set.
    folder
        The folder of the recordings.
    layout
        Layout of the folder (default: detected from folder and file names).
    manifest
        Table that describes the clips, in place of folder and file names (see ``manifest``).
    channels
        Policy for recordings of several channels (default: the layout's policy, or their mean).
    skip_bad
        Leave bad files out instead of rejecting the folder.
    allow_shared_recordings
        Accept recordings that training and test clips of a domain share, and test clips that are probable
        copies of training clips; titles of results on the data set say so.
    progress
        Called with the number of files done and of all files.

    Raises
    ------
    BadFolder
        The folder has bad files and ``skip_bad`` is false, or it has no usable files.
    InputError
        The name, the channel policy, the folder or the manifest is invalid, training and test clips share
        recordings and ``allow_shared_recordings`` is false, layout and manifest are both given, the folder
        mixes layouts, or the data home cannot be written.
        On any error nothing is registered or changed.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a valid data set name; use letters, digits, '.', '_' and '-'")
    if channels is not None and channels not in CHANNEL_POLICIES:
        raise unknown_name("channel policy", channels, CHANNEL_POLICIES)
    if layout is not None and manifest is not None:
        raise InputError(
            f"--manifest {str(manifest)!r} and --layout {layout.name} exclude each other; give one of them"
        )
    workspace.check_home()
    root = folder.resolve()
    previous = _previous_clips(workspace, name, root)
    if manifest is not None:
        manifest = manifest.resolve()
        index = index_manifest(
            root, manifest, keep_copies=allow_shared_recordings, previous=previous, progress=progress
        )
    else:
        index = index_folder(
            root, layout=layout, keep_copies=allow_shared_recordings, previous=previous, progress=progress
        )
    if index.bad and not skip_bad:
        raise BadFolder(root, index.bad, _cure(index.bad))
    if index.clips.is_empty():
        raise BadFolder(root, index.bad, "no usable file is left without these; repair them")
    if index.shared and not allow_shared_recordings:
        raise InputError(
            f"{'; '.join(index.shared)}; a score on such test clips says little about unknown recordings: "
            f"give each recording to training or to test, or accept them with --allow-shared-recordings, "
            f"which marks all results"
        )

    record: _Record = {
        "format": _FORMAT,
        "root": str(root),
        "channels": channels or (index.layout.channels if index.layout else "mean"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "license": _license(root, index.clips),
        "left_out": [asdict(bad) for bad in index.bad],
        "notes": [*index.notes, *index.shared],
        "layout": index.layout.name if index.layout else None,
        "manifest": str(manifest) if manifest else None,
        "shared_recordings": list(index.shared),
        "clips": "",
        "truth": "",
        "fingerprints": "",
    }
    entered = (
        pl.DataFrame(schema=_LABEL_SCHEMA) if previous is None else _entered_labels(workspace, name, previous)
    )
    entered = entered.join(index.clips, on="clip_id", how="semi").join(index.truth, on="clip_id", how="anti")
    return _register(
        workspace,
        name,
        record,
        *_labeled(index.clips, index.truth, entered),
        fingerprints=index.fingerprints,
    )


def _cure(bad: Sequence[BadFile]) -> str:
    cure = "repair or remove these files, or leave them out with --skip-bad"
    if not any(PROBABLE_COPY in problem.reason for problem in bad):
        return cure
    return f"{cure} (--allow-shared-recordings keeps probable copies and marks all results)"


def label(data: DataSet, labels: pl.DataFrame) -> DataSet:
    """Enter labels of test clips in the truth table, and their domains in the clip table.

    Parameters
    ----------
    data
        A registered data set.
    labels
        Columns clip_id, anomaly and domain (null if unknown), one row per clip. They replace earlier labels
        of these clips; labels and domains of other clips are kept.

    Raises
    ------
    InputError
        The registration is damaged or gone, or the data home cannot be written.
    """
    record = _record(data.workspace, data.name)
    return _register(data.workspace, data.name, record, *_labeled(data.clips, truth(data), labels))


def _labeled(
    clips: pl.DataFrame, truth_table: pl.DataFrame, labels: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the clip table with the labels' domains, and the truth table with the labels."""
    domains = labels.select("clip_id", labeled_domain="domain")
    clips = clips.join(domains, on="clip_id", how="left", maintain_order="left")
    clips = clips.with_columns(domain=pl.coalesce("labeled_domain", "domain")).select(list(CLIP_SCHEMA))
    others = truth_table.join(labels, on="clip_id", how="anti")
    return clips, pl.concat([others, labels.select(list(TRUTH_SCHEMA))]).sort("clip_id")


def _entered_labels(workspace: Workspace, name: str, clips: pl.DataFrame) -> pl.DataFrame:
    """Return the labels of the evaluation clips of the data set ``name``."""
    evaluation = clips.filter(pl.col("subset") == "eval").select("clip_id", "domain")
    try:
        return _truth(workspace, name).join(evaluation, on="clip_id").select(list(_LABEL_SCHEMA))
    except InputError:  # a damaged truth table, which is about to be replaced
        return pl.DataFrame(schema=_LABEL_SCHEMA)


def _register(
    workspace: Workspace,
    name: str,
    record: _Record,
    clips: pl.DataFrame,
    truth_table: pl.DataFrame,
    *,
    fingerprints: pl.DataFrame | None = None,
) -> DataSet:
    """Write the tables, then the record that names them; remove the replaced tables last.

    Without ``fingerprints``, those that the record names stay.
    """
    token = uuid.uuid4().hex[:12]
    record = {**record, "clips": f"clips-{token}.parquet", "truth": f"{_TRUTH_FOLDER}{name}/truth-{token}"}
    if fingerprints is not None:
        record["fingerprints"] = f"fingerprints-{token}"
    workspace.check_home()
    folder = workspace.home / "data" / name
    replaced = [path for path in _tables(workspace, name) if path.name != record["fingerprints"]]
    tables = [folder / record["clips"], folder / record["truth"], folder / paths_name(record["clips"])]
    try:
        with replacing(tables[0]) as temporary:
            clips.drop("path").write_parquet(temporary)
        if fingerprints is not None:
            tables.append(folder / record["fingerprints"])
            save_private(tables[-1], fingerprints)
        save_truth(tables[1], truth_table)
        save_private(tables[2], clips.select(list(PATHS_SCHEMA)))
        write_json(folder / "dataset.json", record)
    except BaseException as error:
        _remove(tables)
        if isinstance(error, OSError):
            raise workspace.unwritable(error) from error
        raise
    _remove(replaced)
    return _data_set(workspace, name, record, clips)


_loaded: dict[tuple[Workspace, str], tuple[dict[Path, tuple[int, ...]], DataSet]] = {}


def load(workspace: Workspace, name: str) -> DataSet:
    """Return the data set ``name``, the same object as long as its registration does not change.

    A process holds each data set once, however many jobs read it.

    Raises
    ------
    InputError
        No data set has that name, or its registration is damaged.
    """
    if not isinstance(name, str):  # as from Python
        raise InputError(f"the data set {name!r} is no name; give the name of a data set as a text")
    loaded = _loaded.get((workspace, name))
    if loaded is not None and loaded[0] == _states(loaded[0]):
        return loaded[1]
    record = _record(workspace, name)
    folder = workspace.home / "data" / name
    states = _states([folder / "dataset.json", folder / record["clips"]])
    data = _load(workspace, name, record)
    _loaded[workspace, name] = (states, data)
    return data


def _states(paths: Iterable[Path]) -> dict[Path, tuple[int, ...]]:
    """Return by what it is noticed that a file has changed or vanished."""
    states: dict[Path, tuple[int, ...]] = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            states[path] = ()
        else:
            states[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return states


def _load(workspace: Workspace, name: str, record: _Record) -> DataSet:
    folder = workspace.home / "data" / name
    try:
        clips = stored_clips(folder, record["clips"])
    except (OSError, InputError, pl.exceptions.PolarsError) as error:
        raise _damaged(name, error, record) from error
    if clips.schema != CLIP_SCHEMA:
        raise _damaged(name, f"its clip table has the columns {', '.join(clips.columns)}", record)
    try:
        return _data_set(workspace, name, record, clips)
    except (TypeError, ValueError) as error:
        raise _damaged(name, error, record) from error


def truth(data: DataSet) -> pl.DataFrame:
    """Return the truth table of a data set (``truth.TRUTH_SCHEMA``), which only evaluation may read.

    Raises
    ------
    InputError
        The registration is damaged or gone.
    """
    return _truth(data.workspace, data.name)


def _truth(workspace: Workspace, name: str) -> pl.DataFrame:
    record = _record(workspace, name)
    try:
        return load_truth(workspace.home / "data" / name / record["truth"])
    except InputError as error:
        raise _damaged(name, error, record) from error


def recording_places(workspace: Workspace, name: str) -> list[Path]:
    """Return the folders and files that hold a data set's recordings and what describes them, resolved.

    They are the folders of ``DataSet.root`` that hold clips, the root itself if clips are in no folder, and
    the manifest; nothing for a damaged registration.
    """
    try:
        record = _record(workspace, name)
        first = _first_parts(workspace.home / "data" / name / paths_name(record["clips"]))
    except (InputError, OSError, pl.exceptions.PolarsError):
        return []
    root = Path(record["root"]).resolve()
    manifest = [Path(record["manifest"]).resolve()] if record["manifest"] else []
    return [*(root / part for part in first), *manifest]


@cache
def _first_parts(paths: Path) -> list[str]:
    """Return the folders of the root that hold clips; the name of the file tells its content."""
    parts = load_private(paths, PATHS_SCHEMA, "table of paths")["path"].str.split("/")
    return sorted({part[0] if len(part) > 1 else "" for part in parts.to_list()})


@contextlib.contextmanager
def hidden_paths() -> Iterator[None]:
    """Let the clip tables of all loaded data sets have null as ``path``: a name may contain a label."""
    tables = [(data, data.clips) for _, data in _loaded.values()]
    for data, clips in tables:
        object.__setattr__(data, "clips", clips.with_columns(path=pl.lit(None, pl.Utf8())))
    try:
        yield
    finally:
        for data, clips in tables:
            object.__setattr__(data, "clips", clips)


def changed_files(dataset: DataSet) -> list[str]:
    """Return the paths of clips that are missing or differ in size or modification time; nothing is decoded.

    A file replaced by one of equal size and modification time goes unnoticed.
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
    """Return the summary tables of a data set."""
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
        counts=counted(clips, "machine_type", "section", "subset", "split", "domain"),
        durations=durations.sort("machine_type", "split"),
        formats=formats,
        attributes=counted(each_attribute, "machine_type", "split", "name", "value"),
        license=dataset.license,
        notes=(*dataset.notes, *_conversions(formats, dataset.channels)),
    )


def _conversions(formats: pl.DataFrame, policy: ChannelPolicy) -> list[str]:
    """Return notes about clips that are resampled or reduced to one channel."""
    conversions = []
    for machine_type, sample_rate_hz, channels, clips in formats.iter_rows():
        steps = []
        if channels > 1:
            kept = {
                "near": "the first",
                "far": "the last",
                "both": "the first and then the last",
                "mean": "the mean",
            }[policy]
            steps.append(f"{kept} of {channels} channels is used")
        if sample_rate_hz != SAMPLE_RATE_HZ:
            steps.append(f"{sample_rate_hz} Hz is resampled to {SAMPLE_RATE_HZ} Hz")
        if steps:
            conversions.append(f"{machine_type}: {clips} clips: {', '.join(steps)}")
    return conversions


def _record(workspace: Workspace, name: str) -> _Record:
    """Read a registration."""
    known = names(workspace)
    if name not in known:
        is_demo = name == "demo"
        command = "asdbench data demo" if is_demo else f"asdbench data add {name} FOLDER"
        hint = f"{command!r} {'generates it' if is_demo else 'registers a folder'}"
        raise InputError(f"{unknown_name('data set', name, known)} ({hint})")
    try:
        record = read_json(workspace.home / "data" / name / "dataset.json")
    except (OSError, ValueError) as error:
        raise _damaged(name, error.__cause__ or error) from error
    if isinstance(record, dict) and record.get("format") == 1 and record.keys() >= {"root", "channels"}:
        raise _outdated(name, record)
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise _damaged(name, f"its format is not {_FORMAT}")
    for key, kind in _RECORD_TYPES.items():
        if not isinstance(record.get(key, ...), kind):
            raise _damaged(name, f"its {key!r} is missing or has the wrong type")
    return cast(_Record, record)


def _data_set(workspace: Workspace, name: str, record: _Record, clips: pl.DataFrame) -> DataSet:
    if record["channels"] not in CHANNEL_POLICIES:
        raise unknown_name("channel policy", record["channels"], CHANNEL_POLICIES)
    return DataSet(
        workspace=workspace,
        name=name,
        root=Path(record["root"]),
        clips=clips,
        channels=record["channels"],
        created=datetime.fromisoformat(record["created"]),
        license=record["license"],
        left_out=tuple(BadFile(**bad) for bad in record["left_out"]),
        notes=tuple(record["notes"]),
        layout=record["layout"],
        manifest=Path(record["manifest"]) if record["manifest"] else None,
        shared_recordings=tuple(record["shared_recordings"]),
    )


def _tables(workspace: Workspace, name: str) -> list[Path]:
    """Return the table files of a registration; none if it cannot be read."""
    try:
        record = _record(workspace, name)
    except InputError:
        return []
    return [workspace.home / "data" / name / table for table in _table_names(record)]


def _table_names(record: _Record) -> list[str]:
    return [record["clips"], paths_name(record["clips"]), record["truth"], record["fingerprints"]]


def paths_name(clips: str) -> str:
    """Return the name of the file with the clips' paths, by the name of the clip table.

    >>> paths_name("clips-1a2b.parquet")
    'paths-1a2b'
    """
    return clips.removesuffix(".parquet").replace("clips-", "paths-", 1)


def stored_clips(folder: Path, clips: str) -> pl.DataFrame:
    """Return the clip table of that name in the folder of a registration, with the paths of recordings."""
    paths = load_private(folder / paths_name(clips), PATHS_SCHEMA, "table of paths")
    stored = pl.read_parquet(folder / clips).join(paths, on="clip_id", how="left", maintain_order="left")
    return stored.select("clip_id", "path", pl.exclude("clip_id", "path"))


def _remove(tables: Iterable[Path]) -> None:
    for table in tables:
        table.unlink(missing_ok=True)


def _previous_clips(workspace: Workspace, name: str, root: Path) -> pl.DataFrame | None:
    """Return the clips registered as ``name``, with fingerprints, if they are intact and of the same root."""
    try:
        dataset = load(workspace, name)
        table = workspace.home / "data" / name / _record(workspace, name)["fingerprints"]
        fingerprints = load_private(table, FINGERPRINT_SCHEMA, "table of fingerprints")
    except (InputError, OSError, pl.exceptions.PolarsError):
        return None
    if dataset.root != root or fingerprints.schema != FINGERPRINT_SCHEMA:
        return None
    return dataset.clips.join(fingerprints, on="path")


def _license(root: Path, clips: pl.DataFrame) -> str | None:
    """Return the license texts of the folder, one per line: of all clips, then of each machine type, named.

    The text of a license file is its first paragraph; of a readme, every paragraph that mentions the license.
    """
    scopes: dict[Path, str] = {root: ""}
    for machine_type, path in clips.select("machine_type", "path").unique().sort(pl.all()).iter_rows():
        type_folder, *parents = PurePosixPath(path).parents[1:] or [PurePosixPath(".")]
        for parent in parents:
            scopes.setdefault(root / parent, "")
        scopes.setdefault(root / type_folder, machine_type)
    texts = []
    for folder, scope in sorted(scopes.items(), key=lambda item: (item[1], item[0])):
        for file in sorted(folder.iterdir()):
            if not (_LICENSE_FILE.match(file.name) and file.is_file() and os.access(file, os.R_OK)):
                continue
            with file.open(encoding="utf-8", errors="replace") as stream:
                paragraphs = _PARAGRAPH_END.split(stream.read(_LICENSE_FILE_CHARACTERS).strip())
            if file.name.lower().startswith("readme"):
                paragraphs = [paragraph for paragraph in paragraphs if _LICENSE_WORD.search(paragraph)]
            else:
                paragraphs = paragraphs[:1]
            about = f"{scope}: " if scope else ""
            texts += [about + _LICENSE_HEADING.sub("", " ".join(text.split())) for text in paragraphs]
    return "\n".join(dict.fromkeys(texts)) or None


def _outdated(name: str, record: Mapping[str, Any]) -> InputError:
    command = ["asdbench", "data", "add", name, str(record["root"]), "--channels", str(record["channels"])]
    for option in ("manifest", "layout"):
        if value := record.get(option):
            command += [f"--{option}", str(value)]
    return InputError(
        f"an older version registered the data set {name!r}: it knew clips by the bytes of their files, "
        f"which misses copies in another format; register its recordings again with {shlex.join(command)!r} "
        f"(and repeat 'asdbench data labels' if labels were added)"
    )


def _damaged(name: str, reason: object, record: _Record | None = None) -> InputError:
    command = ["asdbench", "data", "add", name, "FOLDER" if record is None else record["root"]]
    if record is not None and record["manifest"] is not None:
        command += ["--manifest", record["manifest"]]
    return InputError(
        f"the registration of data set {name!r} is damaged ({reason}); register its recordings again with "
        f"{shlex.join(command)!r}"
    )
