"""The catalog of data sets that this user has registered, under names of their choice.

Conventions
-----------
A registration is the folder ``data/<name>/`` of the data home: ``dataset.json`` and the two parquet tables that it names (clips and truth). The JSON
file is written last and atomically: until then the old registration holds, whatever happens. Recordings stay
where they are and are only read.

A clip table without the column ``subset`` is of a registration before there were subsets: all of it is dev.

A data set's fingerprint covers what a score can depend on (content, machine type, section, split, domain,
attributes, recording, channel policy) and nothing else: not file names, paths, times, labels or subsets, nor
the domains of evaluation test clips, which come with the labels.
"""

import hashlib
import json
import os
import re
import shlex
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import polars as pl

from asdbench.data.audio import CHANNEL_POLICIES, ChannelPolicy
from asdbench.data.sets.clips import CLIP_SCHEMA, Progress, index_folder, index_manifest
from asdbench.data.sets.entries import BadFile
from asdbench.data.sets.layouts import SPLITS, SUBSETS, Layout
from asdbench.data.sets.truth import TRUTH_SCHEMA, load_truth, save_truth
from asdbench.errors import InputError, unknown_name
from asdbench.io.files import read_json, replacing, write_json
from asdbench.io.workspace import Workspace
from asdbench.spec import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    from asdbench.metrics import Rule

_FORMAT = 1
_RECORD = {
    "root": str,
    "channels": str,
    "created": str,
    "license": str | None,
    "left_out": list,
    "notes": list,
    "clips": str,
    "truth": str,
    "layout": str | None,
    "manifest": str | None,
}
_ADDED_LATER = {"layout": None, "manifest": None}  # keys that older registrations lack
_LABEL_SCHEMA = pl.Schema({"clip_id": pl.Int64(), "anomaly": pl.Boolean(), "domain": pl.Utf8()})
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
    workspace : where it is registered
    name, root : its name, and the folder of its recordings
    clips : the clip table (``clips.CLIP_SCHEMA``); it has no labels
    channels : the policy by which a recording of several channels becomes one
    created : when it was registered (UTC)
    license : what the folder's license and readme files say about the license, a line for each place, or None
    left_out : bad files that were left out on request
    notes : what was remarkable when the folder was indexed
    layout : the name of the layout that the folder was read in; None for a manifest, or where it was not kept
    manifest : the manifest that described the clips, or None
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

    @property
    def add_command(self) -> str:
        """The command that registers the same recordings again."""
        words = ["asdbench", "data", "add", self.name, str(self.root), "--channels", self.channels]
        if self.manifest is not None:
            words += ["--manifest", str(self.manifest)]
        elif self.layout is not None:
            words += ["--layout", self.layout]
        return shlex.join(words)

    @property
    def known_files(self) -> set[str]:
        """Paths of the files that were looked at: clips, and bad files that were left out."""
        return {*self.clips["path"], *(bad.path for bad in self.left_out)}

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types, sorted."""
        return tuple(self.clips["machine_type"].unique().sort())

    @property
    def rule(self) -> "Rule":
        """How its official score is counted."""
        from asdbench.data.sets.challenges import rule_of  # metrics take a second to import

        return rule_of(self.name, layout=self.layout, domains=self.clips["domain"].is_not_null().any())

    def subsets(self, machine_type: str | None = None) -> tuple[str, ...]:
        """Return the subsets that have test clips, of a machine type or of any; dev where none has."""
        tested = self.clips.filter(pl.col("split") == "test")
        if machine_type is not None:
            tested = tested.filter(pl.col("machine_type") == machine_type)
        there = set(tested["subset"]) or {"dev"}
        return tuple(subset for subset in SUBSETS if subset in there)

    def suffix(self, subset: str) -> str:
        """Return what to put after its name to tell a subset of it: nothing where there is only dev."""
        return "" if subset == "dev" and len(self.subsets()) == 1 else f" ({subset} subset)"

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
        hidden = (pl.col("subset") == "eval") & (pl.col("split") == "test")
        rows = rows.with_columns(domain=pl.when(~hidden).then(pl.col("domain")))
        lines = sorted(json.dumps(row, sort_keys=True) for row in rows.select(_FINGERPRINTED).iter_rows())
        return hashlib.blake2b("\n".join([self.channels, *lines]).encode(), digest_size=32).hexdigest()


@dataclass(frozen=True, eq=False)
class Description:
    """A data set in tables.

    Attributes
    ----------
    counts : machine_type, section, subset, split, domain, clips
    durations : machine_type, split, clips, min_s, median_s, max_s
    formats : machine_type, sample_rate_hz, channels, clips
    attributes : machine_type, split, name, value, clips
    license : what the folder says about its license, or None
    notes : remarks of the indexing, and which clips are resampled or reduced to one channel
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
    progress: Progress | None = None,
) -> DataSet:
    """Index ``folder`` and register it as ``name``; a data set of that name is replaced, with its truth.

    Files that are unchanged since they were registered under this name from this folder are not decoded
    again, and what `label` entered about their evaluation clips stays.

    Parameters
    ----------
    workspace
        Where to register it.
    name
        What to call the data set.
    folder
        The folder of the recordings.
    layout
        How to read it; told from the folder if not given.
    manifest
        A table that describes the clips instead of folders and names (see ``manifest``).
    channels
        What becomes of several channels; what the layout says if not given, and otherwise their mean.
    skip_bad
        Leave bad files out, instead of refusing the folder.
    progress
        Called with (files done, files in all).

    Raises
    ------
    BadFolder
        The folder holds bad files and ``skip_bad`` is not given, or nothing is left without them.
    InputError
        The name, the channel policy, the folder or the manifest is not valid, layout and manifest are both
        given, the folder mixes layouts, or the data home cannot be written.
        Whatever is raised, nothing is registered or changed.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a data set; use letters, digits, '.', '_' and '-'")
    if channels is not None and channels not in CHANNEL_POLICIES:
        raise unknown_name("channel policy", channels, CHANNEL_POLICIES)
    if layout is not None and manifest is not None:
        raise InputError(
            f"a manifest ({str(manifest)!r}) stands in place of a layout ({layout.name}); give one"
        )
    workspace.check_home()
    root = folder.resolve()
    previous = _previous_clips(workspace, name, root)
    if manifest is not None:
        manifest = manifest.resolve()
        index = index_manifest(root, manifest, previous=previous, progress=progress)
    else:
        index = index_folder(root, layout=layout, previous=previous, progress=progress)
    if index.bad and not skip_bad:
        raise BadFolder(root, index.bad, "mend or remove them, or leave them out with --skip-bad")
    if index.clips.is_empty():
        raise BadFolder(root, index.bad, "nothing is left without them: mend them")

    record: dict[str, Any] = {
        "format": _FORMAT,
        "root": str(root),
        "channels": channels or (index.layout.channels if index.layout else "mean"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "license": _license(root, index.clips),
        "left_out": [asdict(bad) for bad in index.bad],
        "notes": index.notes,
        "layout": index.layout.name if index.layout else None,
        "manifest": str(manifest) if manifest else None,
    }
    entered = (
        pl.DataFrame(schema=_LABEL_SCHEMA) if previous is None else _entered_labels(workspace, name, previous)
    )
    entered = entered.join(index.clips, on="clip_id", how="semi").join(index.truth, on="clip_id", how="anti")
    return _register(workspace, name, record, *_labeled(index.clips, index.truth, entered))


def label(data: DataSet, labels: pl.DataFrame) -> DataSet:
    """Enter what was found out about test clips: labels in the truth, domains in the clip table.

    Parameters
    ----------
    data
        A registered data set.
    labels
        Columns clip_id, anomaly and domain (null where it is not known), a row a clip. They stand in place of
        what was known before; the other clips' labels and domains stay.

    Raises
    ------
    InputError
        No data set has that name, its registration is damaged, or the data home cannot be written.
    """
    record = _record(data.workspace, data.name)
    return _register(data.workspace, data.name, record, *_labeled(data.clips, truth(data), labels))


def _labeled(
    clips: pl.DataFrame, truth_table: pl.DataFrame, labels: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the clip table with the labels' domains, and the truth table with the labels."""
    told = labels.select("clip_id", told_domain="domain")
    clips = clips.join(told, on="clip_id", how="left", maintain_order="left")
    clips = clips.with_columns(domain=pl.coalesce("told_domain", "domain")).select(list(CLIP_SCHEMA))
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
    workspace: Workspace, name: str, record: dict[str, Any], clips: pl.DataFrame, truth_table: pl.DataFrame
) -> DataSet:
    """Write the tables and, last, the record that names them; what was there before is removed after that."""
    token = uuid.uuid4().hex[:12]
    record = record | {"clips": f"clips-{token}.parquet", "truth": f"truth-{token}.parquet"}
    workspace.check_home()
    place = workspace.home / "data" / name
    replaced = _tables(workspace, name)
    tables = (place / record["clips"], place / record["truth"])
    try:
        with replacing(tables[0]) as temporary:
            clips.write_parquet(temporary)
        save_truth(tables[1], truth_table)
        write_json(place / "dataset.json", record)
    except BaseException as error:
        _remove(tables)
        if isinstance(error, OSError):
            raise workspace.unwritable(error) from error
        raise
    _remove(replaced)
    return _data_set(workspace, name, record, clips)


def load(workspace: Workspace, name: str) -> DataSet:
    """Return the data set ``name``.

    Raises
    ------
    InputError
        No data set has that name, or its registration is damaged.
    """
    record = _record(workspace, name)
    path = workspace.home / "data" / name / record["clips"]
    try:
        clips = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _damaged(name, error) from error
    if "subset" not in clips.columns:  # registered before there were subsets
        clips = clips.with_columns(subset=pl.lit("dev"))
    if set(clips.columns) == set(CLIP_SCHEMA):
        clips = clips.select(list(CLIP_SCHEMA))
    if clips.schema != CLIP_SCHEMA:
        raise _damaged(name, "its clip table has other columns")
    try:
        return _data_set(workspace, name, record, clips)
    except (TypeError, ValueError) as error:
        raise _damaged(name, error) from error


def truth(data: DataSet) -> pl.DataFrame:
    """Return the truth table of a data set (``truth.TRUTH_SCHEMA``); only judging scores needs it.

    Raises
    ------
    InputError
        No data set has that name, or its registration is damaged.
    """
    return _truth(data.workspace, data.name)


def _truth(workspace: Workspace, name: str) -> pl.DataFrame:
    return load_truth(workspace.home / "data" / name / _record(workspace, name)["truth"])


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
        counts=counted(clips, "machine_type", "section", "subset", "split", "domain"),
        durations=durations.sort("machine_type", "split"),
        formats=formats,
        attributes=counted(each_attribute, "machine_type", "split", "name", "value"),
        license=dataset.license,
        notes=(*dataset.notes, *_conversions(formats, dataset.channels)),
    )


def _conversions(formats: pl.DataFrame, policy: ChannelPolicy) -> list[str]:
    """Say which clips are not used as they are."""
    said = []
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
            said.append(f"{machine_type}: {clips} clips: {', '.join(steps)}")
    return said


def _record(workspace: Workspace, name: str) -> dict[str, Any]:
    """Read a registration."""
    known = names(workspace)
    if name not in known:
        hint = "'asdbench data add' registers a folder"
        raise InputError(f"{unknown_name('data set', name, known)} ({hint})")
    try:
        record = read_json(workspace.home / "data" / name / "dataset.json")
    except (OSError, ValueError) as error:
        raise _damaged(name, error.__cause__ or error) from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise _damaged(name, f"it is not of format {_FORMAT}")
    record = _ADDED_LATER | record
    for key, kind in _RECORD.items():
        if not isinstance(record.get(key, ...), kind):
            raise _damaged(name, f"its {key!r} is missing or of another type")
    return record


def _data_set(workspace: Workspace, name: str, record: dict[str, Any], clips: pl.DataFrame) -> DataSet:
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
    )


def _tables(workspace: Workspace, name: str) -> list[Path]:
    """Return the table files of a registration, if there is one that can be read."""
    try:
        record = _record(workspace, name)
    except InputError:
        return []
    return [workspace.home / "data" / name / record[table] for table in ("clips", "truth")]


def _remove(tables: Iterable[Path]) -> None:
    for table in tables:
        table.unlink(missing_ok=True)


def _previous_clips(workspace: Workspace, name: str, root: Path) -> pl.DataFrame | None:
    """Return the clip table registered as ``name``, if it is whole and of the same folder."""
    try:
        dataset = load(workspace, name)
    except InputError:
        return None
    return dataset.clips if dataset.root == root else None


def _license(root: Path, clips: pl.DataFrame) -> str | None:
    """Return what is said about the license, a line each: of all, then of each machine type.

    Of a license file that is its first paragraph, of a readme every paragraph with the word.
    """
    places: dict[Path, str] = {root: "all"}
    for machine_type, path in clips.select("machine_type", "path").unique().sort(pl.all()).iter_rows():
        of_type, *around = PurePosixPath(path).parents[1:] or [PurePosixPath(".")]
        for place in around:
            places.setdefault(root / place, "all")
        places.setdefault(root / of_type, machine_type)
    said = []
    for folder, whose in sorted(places.items(), key=lambda item: (item[1] != "all", item[1], item[0])):
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
    return "\n".join(dict.fromkeys(said)) or None


def _damaged(name: str, why: object) -> InputError:
    cure = "register its folder again with 'asdbench data add'"
    return InputError(f"the registration of data set {name!r} is damaged ({why}); {cure}")
