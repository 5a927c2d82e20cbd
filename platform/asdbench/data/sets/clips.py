"""From listed clips to the clip table: every file is looked at and everything bad is listed.

Idea
----
A folder (``folders``) or a manifest (``manifest``) says which clips there are and what is known of them.
Indexing decodes every clip in a pool of threads and collects all that is wrong, so that a user mends a
data set once.

Conventions
-----------
``clip_id`` comes from the content of a file, and the table is ordered by it within a split: neither numbers
nor order tell anything about a name or a label. The labels of test clips go to a truth table of their own
(see ``truth``). Paths are posix and relative to the folder. Content is equal where the bytes of two files
are.

``split`` is train, test or supplemental; supplemental clips are neither trained on nor scored unless a system
asks for them. ``subset`` is dev or eval: what the folder or the manifest says, otherwise eval for a section
(of a machine type) that has test clips none of which carries a label, dev for all else. Whatever is tuned
must not see clips of eval. ``domain`` is null where there are no domains or a name does not tell.

Known departures
----------------
A file counts as unchanged when its path, size and modification time are.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from asdbench.data.audio import ClipAudio, facts_or_reason
from asdbench.data.sets.entries import BadFile, ClipEntry, Findings, Listing
from asdbench.data.sets.folders import list_folder
from asdbench.data.sets.layouts import Layout
from asdbench.data.sets.manifest import list_manifest
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
        "content_hash": pl.Utf8(),
        "size_bytes": pl.Int64(),
        "mtime_ns": pl.Int64(),
    }
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Index:
    """What a folder holds: the clip table (``CLIP_SCHEMA``), the truth (``TRUTH_SCHEMA``), bad files, notes.

    What is bad is in neither table. ``layout`` is the one that was read, None for a manifest.
    """

    clips: pl.DataFrame
    truth: pl.DataFrame
    bad: list[BadFile]
    notes: list[str]
    layout: Layout | None = None


def index_folder(
    folder: Path,
    *,
    layout: Layout | None = None,
    workers: int | None = None,
    previous: pl.DataFrame | None = None,
    progress: Progress | None = None,
) -> Index:
    """Look at every clip of every machine type under ``folder``.

    Parameters
    ----------
    folder:
        The folder that holds the machine types' folders, or ``dev_data/`` and ``eval_data/``, which do; it is
        only read.
    layout:
        How names and folders are to be read; told from the folder if not given.
    workers:
        Threads that decode; one a processor by default.
    previous:
        The clip table of an earlier index of the same folder: files of equal path, size and modification time
        are not decoded again.
    progress:
        Called with (files done, files in all).

    Raises
    ------
    InputError
        ``folder`` holds no machine types or mixes layouts, or ``workers`` is below 1. Bad files do not raise:
        they are listed.
    """
    findings = Findings()
    _check_workers(workers)
    listing, layout = list_folder(folder, findings, layout=layout)
    return _indexed(folder, listing, findings, layout, workers=workers, previous=previous, progress=progress)


def index_manifest(
    folder: Path,
    manifest: Path,
    *,
    workers: int | None = None,
    previous: pl.DataFrame | None = None,
    progress: Progress | None = None,
) -> Index:
    """Look at every clip under ``folder`` that ``manifest`` names; the rest is as in :func:`index_folder`.

    Raises
    ------
    InputError
        ``manifest`` cannot be read as a table or its columns are not those of a manifest, or ``workers`` is
        below 1. Bad rows and files do not raise: they are listed.
    """
    findings = Findings()
    _check_workers(workers)
    listing = list_manifest(manifest, folder, findings)
    return _indexed(folder, listing, findings, None, workers=workers, previous=previous, progress=progress)


def _check_workers(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise InputError(f"workers is {workers}; at least 1 is needed")


def _indexed(
    folder: Path,
    listing: Listing,
    findings: Findings,
    layout: Layout | None,
    *,
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
    rows = _of_trained_types(rows, listing.machine_types, findings)

    rows.sort(key=lambda row: (row["machine_type"], row["split"], row["section"], row["path"]))
    for row, clip_id in zip(rows, _clip_ids([row["content_hash"] for row in rows]), strict=True):
        row["clip_id"] = clip_id
    clips = pl.DataFrame(rows, schema=CLIP_SCHEMA).sort("machine_type", "section", "split", "clip_id")
    told = [row for row in rows if row["path"] in anomalous]
    truth = pl.DataFrame(
        {"clip_id": [row["clip_id"] for row in told], "anomaly": [anomalous[row["path"]] for row in told]},
        schema=TRUTH_SCHEMA,
    ).sort("clip_id")
    return Index(clips, truth, findings.listed(), findings.notes, layout)


def _subsets(entries: Sequence[ClipEntry]) -> dict[tuple[str, str], str]:
    """Return the subset of every (machine type, section) whose entries do not say it."""
    labels: dict[tuple[str, str], set[str | None]] = {}
    for entry in entries:
        of_section = labels.setdefault((entry.machine_type, entry.section), set())
        if entry.split == "test":
            of_section.add(entry.label)
    return {section: "eval" if found == {None} else "dev" for section, found in labels.items()}


def _inspect(
    folder: Path,
    paths: Sequence[str],
    *,
    workers: int | None,
    previous: pl.DataFrame | None,
    progress: Progress | None,
    findings: Findings,
) -> dict[str, ClipAudio]:
    """Return the facts of every file that decodes, by path; the others become findings."""
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
    # Decoding and hashing run outside Python's lock, so threads serve.
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
    columns = ("samples", "sample_rate_hz", "channels", "content_hash", "size_bytes", "mtime_ns")
    return {path: ClipAudio(*values) for path, *values in previous.select("path", *columns).iter_rows()}


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # decoding will say why
        return None
    return status.st_size, status.st_mtime_ns


def _row(entry: ClipEntry, audio: ClipAudio, subset: str) -> dict[str, Any]:
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
        "content_hash": audio.content_hash,
        "size_bytes": audio.size_bytes,
        "mtime_ns": audio.mtime_ns,
    }


def _without_leaks(rows: list[dict[str, Any]], findings: Findings) -> list[dict[str, Any]]:
    """Drop test clips that a system of their type may train on; note content that a split holds twice."""
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
            findings.bad(row["path"], f"a leak: its content equals that of the {trained[content]}")
            continue
        kept.append(row)
        original = first.setdefault((*content, row["split"]), row["path"])
        if original != row["path"]:
            repeated.setdefault((row["machine_type"], row["split"]), []).append(f"{row['path']} = {original}")
    for (machine_type, split), pairs in repeated.items():
        what = "clip repeats" if len(pairs) == 1 else "clips repeat"
        findings.notes.append(f"{machine_type}/{split}: {len(pairs)} {what} another's content ({pairs[0]})")
    return kept


def _of_trained_types(
    rows: list[dict[str, Any]], machine_types: Sequence[str], findings: Findings
) -> list[dict[str, Any]]:
    """Drop machine types without a usable training clip; note those without test clips."""
    counts = Counter((row["machine_type"], row["split"]) for row in rows)
    untrained = {machine_type for machine_type in machine_types if not counts[machine_type, "train"]}
    for machine_type in sorted(untrained):
        findings.bad(machine_type, "no usable training clips, so nothing can be learned")
    findings.notes.extend(
        f"{machine_type} has no test clips"
        for machine_type in machine_types
        if machine_type not in untrained and not counts[machine_type, "test"]
    )
    return [row for row in rows if row["machine_type"] not in untrained]


def _clip_ids(content_hashes: Sequence[str]) -> list[int]:
    """Return one non-negative id a clip, from its content and how often that content came before."""
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
