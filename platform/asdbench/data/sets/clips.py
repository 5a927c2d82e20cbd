"""The clip table: every listed file is decoded, and every problem is collected.

Idea
----
A folder (``folders``) or a manifest (``manifest``) lists the clips and describes them. Indexing decodes every
clip in a pool of threads and collects all problems, so that a user can repair a data set in one go.

Conventions
-----------
``clip_id`` is derived from the content of a file, and the table is ordered by it within a split: neither ids
nor order reveal a name or a label. The labels of test clips go to a separate truth table (see ``truth``).
Paths are POSIX and relative to the folder. Two clips have equal content if they have the same decoded samples
at the same sample rate (see `asdbench.data.audio.ContentHash`), whatever their file formats. A test clip is a
probable copy of a training clip if their fingerprints agree (see `asdbench.data.sets.copies`).

``split`` is train, test or supplemental; supplemental clips are neither trained on nor scored unless a system
asks for them. ``subset`` is dev or eval, as given by the folder or the manifest; otherwise eval for a section
(of a machine type) whose test clips all lack labels, and dev for all others. Tuning must not see eval clips.
``domain`` is null if there are no domains or the name does not contain one. ``fault`` is what is suspicious
about the samples (see `asdbench.data.audio.SignalCheck`), null if nothing is. ``spectrum`` holds mean levels
of frequency bands (see `asdbench.data.audio.MeanSpectrum`), by which the hold-out keeps similar clips
together.

Known departures
----------------
A file counts as unchanged if its path, size and modification time are unchanged.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import polars as pl

from asdbench.data.audio import ClipAudio, facts_or_reason
from asdbench.data.fingerprint import Words, words_from_bytes
from asdbench.data.sets.copies import ProbableCopy, probable_copies
from asdbench.data.sets.entries import BadFile, ClipEntry, Findings, Listing
from asdbench.data.sets.folders import list_folder
from asdbench.data.sets.layouts import Layout
from asdbench.data.sets.manifest import list_manifest
from asdbench.data.sets.recording_notes import duration_notes, signal_notes
from asdbench.data.sets.shared_recordings import kept_copies, shared_recordings
from asdbench.data.sets.truth import TRUTH_SCHEMA
from asdbench.errors import InputError

CLIP_SCHEMA = pl.Schema(
    {
        "clip_id": pl.Int64(),
        "path": pl.Utf8(),
        "machine_type": pl.Utf8(),
        "section": pl.Utf8(),
        "split": pl.Utf8(),
        "domain": pl.Utf8(),
        "attributes": pl.List(pl.Struct({"name": pl.Utf8(), "value": pl.Utf8()})),
        "recording": pl.Utf8(),
        "subset": pl.Utf8(),
        "samples": pl.Int64(),
        "sample_rate_hz": pl.Int64(),
        "channels": pl.Int64(),
        "duration_s": pl.Float64(),
        "fault": pl.Utf8(),
        "content_hash": pl.Utf8(),
        "size_bytes": pl.Int64(),
        "mtime_ns": pl.Int64(),
        "spectrum": pl.List(pl.Float32()),
    }
)

PROBABLE_COPY = "probably the same recording as"
FINGERPRINT_SCHEMA = pl.Schema({"path": pl.Utf8(), "fingerprint": pl.Binary()})

Progress = Callable[[int, int], None]


class _ClipRow(TypedDict):
    """A row of the clip table."""

    clip_id: NotRequired[int]
    path: str
    machine_type: str
    section: str
    split: str
    domain: str | None
    attributes: list[dict[str, str]]
    recording: str | None
    subset: str
    samples: int
    sample_rate_hz: int
    channels: int
    duration_s: float
    fault: str | None
    content_hash: str
    size_bytes: int
    mtime_ns: int
    spectrum: Sequence[float]


@dataclass(frozen=True, eq=False)
class Index:
    """The content of a folder.

    Attributes
    ----------
    clips, truth : the clip table (``CLIP_SCHEMA``) and the truth table (``TRUTH_SCHEMA``), without bad files
    fingerprints : ``FINGERPRINT_SCHEMA``, one row per file that can be decoded
    bad : files that cannot be used
    notes : remarks for the user
    layout : the layout of the folder, None for a manifest
    shared : sentences on recordings that training and test clips share (see ``shared_recordings``)
    """

    clips: pl.DataFrame
    truth: pl.DataFrame
    fingerprints: pl.DataFrame
    bad: list[BadFile]
    notes: list[str]
    layout: Layout | None = None
    shared: tuple[str, ...] = ()


def index_folder(
    folder: Path,
    *,
    layout: Layout | None = None,
    keep_copies: bool = False,
    workers: int | None = None,
    previous: pl.DataFrame | None = None,
    progress: Progress | None = None,
) -> Index:
    """Index every clip of every machine type under ``folder``.

    Parameters
    ----------
    folder:
        Folder that contains the machine types' folders, directly or in ``dev_data/`` and ``eval_data/``; it
        is only read.
    layout:
        Layout of folders and file names (default: detected).
    keep_copies:
        Keep test clips that are probable copies of training clips, in place of listing them as bad.
    workers:
        Number of decoding threads (default: one per processor).
    previous:
        Clip table of an earlier index of the same folder, with the column ``fingerprint``: files of equal
        path, size and modification time are not decoded again.
    progress:
        Called with the number of files done and of all files.

    Raises
    ------
    InputError
        ``folder`` contains no machine types or mixes layouts, or ``workers`` is less than 1. Bad files do not
        raise: they are listed.
    """
    findings = Findings()
    _check_workers(workers)
    listing, layout = list_folder(folder, findings, layout=layout)
    return _indexed(
        folder,
        listing,
        findings,
        layout,
        keep_copies=keep_copies,
        workers=workers,
        previous=previous,
        progress=progress,
    )


def index_manifest(
    folder: Path,
    manifest: Path,
    *,
    keep_copies: bool = False,
    workers: int | None = None,
    previous: pl.DataFrame | None = None,
    progress: Progress | None = None,
) -> Index:
    """Index every clip under ``folder`` that ``manifest`` names; other parameters as in :func:`index_folder`.

    Raises
    ------
    InputError
        ``manifest`` cannot be read as a table or has other columns than a manifest, or ``workers`` is less
        than 1. Bad rows and files do not raise: they are listed.
    """
    findings = Findings()
    _check_workers(workers)
    listing = list_manifest(manifest, folder, findings)
    return _indexed(
        folder,
        listing,
        findings,
        None,
        keep_copies=keep_copies,
        workers=workers,
        previous=previous,
        progress=progress,
    )


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; it must be at least 1")


def _indexed(
    folder: Path,
    listing: Listing,
    findings: Findings,
    layout: Layout | None,
    *,
    keep_copies: bool,
    workers: int | None,
    previous: pl.DataFrame | None,
    progress: Progress | None,
) -> Index:
    paths = [*(entry.path for entry in listing.entries), *listing.unnamed]
    facts = _inspect(folder, paths, workers=workers, previous=previous, progress=progress, findings=findings)
    subsets = _subsets(listing.entries)
    anomalous = {
        entry.path: entry.label == "anomaly"
        for entry in listing.entries
        if entry.label is not None and entry.split == "test"
    }
    rows = [
        _row(entry, facts[entry.path], entry.subset or subsets[entry.machine_type, entry.section])
        for entry in listing.entries
        if entry.path in facts and entry.path not in findings.reasons
    ]
    rows = _without_leaks(rows, findings)
    copies = _copies(rows, facts)
    if not keep_copies:
        rows = _without_copies(rows, copies, findings)
    rows = _of_trained_types(rows, listing.machine_types, findings)

    rows.sort(key=lambda row: (row["machine_type"], row["split"], row["section"], row["path"]))
    for row, clip_id in zip(rows, _clip_ids([row["content_hash"] for row in rows]), strict=True):
        row["clip_id"] = clip_id
    clips = pl.DataFrame(rows, schema=CLIP_SCHEMA).sort("machine_type", "section", "split", "clip_id")
    findings.notes += [*signal_notes(clips), *duration_notes(clips)]
    labeled = [row for row in rows if row["path"] in anomalous]
    truth = pl.DataFrame(
        {
            "clip_id": [row["clip_id"] for row in labeled],
            "anomaly": [anomalous[row["path"]] for row in labeled],
        },
        schema=TRUTH_SCHEMA,
    ).sort("clip_id")
    shared = shared_recordings(clips)
    if keep_copies:
        shared += [kept_copies(machine_type, found) for machine_type, found in copies.items()]
    return Index(clips, truth, _fingerprints(facts), findings.listed(), findings.notes, layout, tuple(shared))


def _subsets(entries: Sequence[ClipEntry]) -> dict[tuple[str, str], str]:
    """Return the subset of every (machine type, section), for entries that do not give it."""
    labels: dict[tuple[str, str], set[str | None]] = {}
    for entry in entries:
        section_labels = labels.setdefault((entry.machine_type, entry.section), set())
        if entry.split == "test":
            section_labels.add(entry.label)
    return {section: "eval" if values == {None} else "dev" for section, values in labels.items()}


def _inspect(
    folder: Path,
    paths: Sequence[str],
    *,
    workers: int | None,
    previous: pl.DataFrame | None,
    progress: Progress | None,
    findings: Findings,
) -> dict[str, ClipAudio]:
    """Return the facts of every file that can be decoded, by path; the others become findings."""
    known = _known_facts(previous)
    facts: dict[str, ClipAudio] = {}
    unknown: list[str] = []
    for path in paths:
        old = known.get(path)
        if old is not None and (old.size_bytes, old.mtime_ns) == _size_and_time(folder / path):
            facts[path] = old
        else:
            unknown.append(path)
    done = len(paths) - len(unknown)
    if progress is not None:
        progress(done, len(paths))
    # Decoding and hashing release the GIL, so threads suffice.
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        results = pool.map(facts_or_reason, [folder / path for path in unknown])
        for path, result in zip(unknown, results, strict=True):
            if isinstance(result, ClipAudio):
                facts[path] = result
            else:
                findings.bad(path, result)
            done += 1
            if progress is not None:
                progress(done, len(paths))
    return facts


def _known_facts(previous: pl.DataFrame | None) -> dict[str, ClipAudio]:
    if previous is None:
        return {}
    columns = ("samples", "sample_rate_hz", "channels", "fault", "content_hash", "size_bytes", "mtime_ns")
    known = previous.select("path", *columns, "spectrum", "fingerprint")
    return {path: ClipAudio(*values) for path, *values in known.iter_rows()}


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # decoding reports the reason
        return None
    return status.st_size, status.st_mtime_ns


def _row(entry: ClipEntry, audio: ClipAudio, subset: str) -> _ClipRow:
    return {
        "path": entry.path,
        "machine_type": entry.machine_type,
        "section": entry.section,
        "split": entry.split,
        "domain": entry.domain,
        "attributes": [{"name": key, "value": value} for key, value in entry.attributes],
        "recording": entry.recording,
        "subset": subset,
        "samples": audio.samples,
        "sample_rate_hz": audio.sample_rate_hz,
        "channels": audio.channels,
        "duration_s": audio.samples / audio.sample_rate_hz,
        "fault": audio.fault,
        "content_hash": audio.content_hash,
        "size_bytes": audio.size_bytes,
        "mtime_ns": audio.mtime_ns,
        "spectrum": audio.spectrum,
    }


def _without_leaks(rows: list[_ClipRow], findings: Findings) -> list[_ClipRow]:
    """Drop test clips whose content is also training content; note content that occurs twice in a split."""
    trained = {
        (row["machine_type"], row["content_hash"]): f"{kind} clip {row['path']}"
        for split, kind in (("supplemental", "supplemental"), ("train", "training"))
        for row in rows
        if row["split"] == split
    }
    first: dict[tuple[str, str, str], str] = {}
    repeated: dict[tuple[str, str], list[str]] = {}
    kept = []
    for row in rows:
        content = (row["machine_type"], row["content_hash"])
        if row["split"] == "test" and content in trained:
            findings.bad(row["path"], f"data leak: its content equals that of the {trained[content]}")
            continue
        kept.append(row)
        original = first.setdefault((*content, row["split"]), row["path"])
        if original != row["path"]:
            repeated.setdefault((row["machine_type"], row["split"]), []).append(f"{row['path']} = {original}")
    for (machine_type, split), pairs in repeated.items():
        what = "clip repeats" if len(pairs) == 1 else "clips repeat"
        findings.notes.append(f"{machine_type}/{split}: {len(pairs)} {what} another's content ({pairs[0]})")
    return kept


def _copies(rows: Sequence[_ClipRow], facts: Mapping[str, ClipAudio]) -> dict[str, dict[str, ProbableCopy]]:
    """Return test clips that are probable copies of clips of other splits: by machine type, then by path."""
    sides: dict[tuple[str, bool], dict[str, Words]] = {}
    for row in rows:
        side = sides.setdefault((row["machine_type"], row["split"] == "test"), {})
        side[row["path"]] = words_from_bytes(facts[row["path"]].fingerprint, channels=row["channels"])
    found = {
        machine_type: probable_copies(tested, sides.get((machine_type, False), {}))
        for (machine_type, is_test), tested in sorted(sides.items())
        if is_test
    }
    return {machine_type: copies for machine_type, copies in found.items() if copies}


def _without_copies(
    rows: list[_ClipRow], copies: Mapping[str, Mapping[str, ProbableCopy]], findings: Findings
) -> list[_ClipRow]:
    """Drop the test clips that are probable copies."""
    supplemental = {row["path"] for row in rows if row["split"] == "supplemental"}
    every = {path: copy for found in copies.values() for path, copy in found.items()}
    for path, copy in every.items():
        kind = "supplemental" if copy.original in supplemental else "training"
        findings.bad(
            path,
            f"{PROBABLE_COPY} the {kind} clip {copy.original} (they share {copy.shared_s:.1f} s)",
        )
    return [row for row in rows if row["path"] not in every]


def _fingerprints(facts: Mapping[str, ClipAudio]) -> pl.DataFrame:
    return pl.DataFrame(
        {"path": [*facts], "fingerprint": [audio.fingerprint for audio in facts.values()]},
        schema=FINGERPRINT_SCHEMA,
    )


def _of_trained_types(
    rows: list[_ClipRow], machine_types: Sequence[str], findings: Findings
) -> list[_ClipRow]:
    """Drop machine types without a usable training clip; note those without test clips."""
    counts = Counter((row["machine_type"], row["split"]) for row in rows)
    untrained = {machine_type for machine_type in machine_types if not counts[machine_type, "train"]}
    for machine_type in sorted(untrained):
        findings.bad(machine_type, "it has no usable training clips")
    findings.notes.extend(
        f"{machine_type} has no test clips"
        for machine_type in machine_types
        if machine_type not in untrained and not counts[machine_type, "test"]
    )
    return [row for row in rows if row["machine_type"] not in untrained]


def _clip_ids(content_hashes: Sequence[str]) -> list[int]:
    """Return one non-negative id per clip, from its content and the number of its earlier occurrences."""
    seen: Counter[str] = Counter()
    taken: set[int] = set()
    clip_ids = []
    for content_hash in content_hashes:
        while True:
            key = f"{content_hash}/{seen[content_hash]}".encode()
            seen[content_hash] += 1
            clip_id = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
            if clip_id not in taken:
                break
        taken.add(clip_id)
        clip_ids.append(clip_id)
    return clip_ids
