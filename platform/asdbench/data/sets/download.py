"""Download of a challenge's archives: resumable, verified, and unpacked completely or not at all.

Idea
----
Every archive goes through the same steps in a pool of threads: download (resuming an earlier attempt), check
size and MD5, check member names and sizes, unpack into a staging folder and move the files to their folder. A
note lists the files of each unpacked archive, so that a second call does only what is missing.

Conventions
-----------
``root`` holds ``dev_data/<machine type>/`` and ``eval_data/<machine type>/``, ``LICENSE.txt`` and the hidden
folder ``.archives`` with partial downloads (``<archive>.part``), notes of unpacked files (``<archive>.json``)
and the lock. A mirror has the same addresses as Zenodo: ``/records/<record>/files/<archive>`` and, for sizes,
checksums and license, ``/api/records/<record>``. At Zenodo itself the checksum in the table of `challenges`
takes precedence over the record's; a mirror's record may give another one, which is reported in a note.

In member names, everything before a folder of clips (``train/``) is dropped, and files outside of such
folders go to the machine type's folder, so that the archives of all years give the same tree.
"""

import hashlib
import re
import shutil
import stat
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import requests

from asdbench.data.sets.challenges import Archive, Challenge
from asdbench.data.sets.layouts import AUDIO_SUFFIXES, SUBSET_FOLDERS
from asdbench.errors import InputError
from asdbench.io.download import (
    BUSY,
    NO_ADDRESS,
    Interrupted,
    Refused,
    asked_pause_s,
    check_room,
    fetch,
    only_one,
    part_bytes,
    shown_bytes,
)
from asdbench.io.files import read_json, replacing, write_json

ZENODO = "https://zenodo.org"

_ASKING_TIMEOUT_S = (5.0, 15.0)
_ASKING_ATTEMPTS = 4
_PIECE_BYTES = 1 << 18
_BACK_OFF_S = 0.25
_UNPACKED_RATIO = 2  # of clips to their archive, for the disk check before anything is fetched
_MOST_UNPACKED_RATIO = 20  # recordings shrink to half at best, silence aside
_MOST_UNPACKED_EXTRA_BYTES = 64 << 20

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class RecordFacts:
    """The metadata of a Zenodo record: (bytes, MD5 or None) of each file, and its license, or None."""

    files: Mapping[str, tuple[int, str | None]]
    license: str | None


@dataclass(frozen=True)
class Fetched:
    """The result of `get`.

    Attributes
    ----------
    files
        Paths of all files of the requested archives, POSIX and relative to the root.
    new_archives
        Number of archives that were unpacked by this call.
    """

    files: frozenset[str]
    new_archives: int

    @property
    def clips(self) -> set[str]:
        """The files that are recordings."""
        return {file for file in self.files if file.lower().endswith(AUDIO_SUFFIXES)}


def ask_records(records: Iterable[int], *, base_url: str = ZENODO) -> dict[int, RecordFacts]:
    """Return the metadata of records, except for those that cannot be reached.

    Raises
    ------
    InputError
        A response is not that of a Zenodo record.
    """
    facts = {}
    for record in records:
        url = f"{base_url.rstrip('/')}/api/records/{record}"
        answer = _asked(url)
        if answer is None:
            break  # if one record cannot be reached, none can
        if answer.ok:
            facts[record] = _record_facts(answer, url)
    return facts


def get(
    challenge: Challenge,
    root: Path,
    *,
    subsets: Iterable[str] = (),
    machine_types: Iterable[str] = (),
    given: Path | None = None,
    base_url: str = ZENODO,
    say: Say = lambda _: None,
    progress: Progress | None = None,
    threads: int = 4,
) -> Fetched:
    """Download a challenge's clips to ``root``; files that are already complete are not downloaded again.

    Parameters
    ----------
    challenge
        The challenge year.
    root
        Folder for the clips; it is created if necessary.
    subsets, machine_types
        Subsets and machine types to download (default: all).
    given
        Folder that already contains the archives; nothing is downloaded then.
    base_url
        Address of Zenodo or of a mirror.
    say
        Called with lines for the user: the license, the first time, and notes.
    progress
        Called from any thread with the bytes of archives done and the total as far as it is known.
    threads
        Number of archives to download at a time.

    Raises
    ------
    InputError
        A subset or machine type does not exist, an archive is missing or damaged, the server refuses, the
        disk is full, or another process downloads to the same folder. Finished archives and partial downloads
        are kept, and the next call resumes from them.
    """
    chosen = challenge.archives(subsets=subsets, machine_types=machine_types)
    folders = {subset: folder for folder, subset in SUBSET_FOLDERS.items()}
    type_dirs = {
        a: f"{folders[subset]}/{a.machine_type}" for subset, archives in chosen.items() for a in archives
    }
    try:
        if given is not None:
            _check_given(given, [archive for archive in type_dirs if _unpacked_files(root, archive) is None])
        with only_one(root / ".archives", target=root, cure="choose another folder with --output"):
            missing = [archive for archive in type_dirs if _unpacked_files(root, archive) is None]
            if missing:
                download = _Download(
                    root, given, base_url, frozenset(f.name for f in challenge.layout.folders), progress
                )
                download.prepare(challenge, missing, say)
                download.run({archive: type_dirs[archive] for archive in missing}, threads)
            files = frozenset(file for a in type_dirs for file in _unpacked_files(root, a) or ())
    except OSError as error:
        reason = error.strerror or str(error)
        what = str(error.filename or root)
        raise InputError(
            f"cannot use {what!r} ({reason}); fix that, or choose another folder with --output"
        ) from error
    return Fetched(files, len(missing))


class _Download:
    """The downloads of one call, shared by its threads."""

    def __init__(
        self,
        root: Path,
        given: Path | None,
        base_url: str,
        clip_folders: Collection[str],
        progress: Progress | None,
    ) -> None:
        self.root = root
        self.given = given
        self.base_url = base_url.rstrip("/")
        self.clip_folders = clip_folders
        self.progress = progress
        self.stopped = threading.Event()
        self.sizes: dict[Archive, int] = {}
        self.md5: dict[Archive, str] = {}
        self._done: dict[Archive, int] = {}
        self._lock = threading.Lock()

    def prepare(self, challenge: Challenge, archives: Collection[Archive], say: Say) -> None:
        """Look up sizes, checksums and license; raise before downloading if the request cannot be met."""
        facts = ask_records(dict.fromkeys(a.record for a in archives), base_url=self.base_url)
        differing = 0
        for archive in archives:
            size, md5 = None, None
            if archive.record in facts:
                size, md5 = facts[archive.record].files.get(archive.name, (None, None))
                if size is None and self.given is None:
                    raise InputError(
                        f"record {archive.record} at {self.base_url} has no file {archive.name!r};"
                        f" give another address with --base-url"
                    )
            differing += None not in (md5, archive.md5) and md5 != archive.md5
            published = archive.md5 if self.base_url == ZENODO else None
            if known := published or md5 or archive.md5:
                self.md5[archive] = known
            if self.given is not None:
                self.sizes[archive] = part_bytes(self.given / archive.name)
            elif size is not None:
                self.sizes[archive] = size
        unchecked = [archive.name for archive in archives if archive not in self.md5]
        if unchecked and self.given is None:
            raise InputError(
                f"no checksum is known for {unchecked[0]!r}, and {self.base_url}/api/records does not"
                f" respond; give an address that does with --base-url, or a folder of downloaded"
                f" archives with --from"
            )
        self._check_room(archives)
        for line in _license_news(challenge, facts, self.root / "LICENSE.txt"):
            say(line)
        if differing:
            say(f"note: the checksums of {differing} archives differ from the published ones")
        if unchecked:
            say(f"note: not verified, because no checksum is known: {', '.join(unchecked)}")

    def run(self, type_dirs: Mapping[Archive, str], threads: int) -> None:
        """Download, verify and unpack; the first error stops the others."""
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(self._bring, *item) for item in type_dirs.items()]
            try:
                for future in as_completed(futures):
                    future.result()
            finally:
                self.stopped.set()
                pool.shutdown(cancel_futures=True)

    def _bring(self, archive: Archive, type_dir: str) -> None:
        path = self._fetched(archive) if self.given is None else self._given(archive, self.given)
        if path is None:
            return
        files = unpack(path, self.root / type_dir, clip_folders=self.clip_folders, stopped=self.stopped)
        if files is None:
            return
        self._advance(archive, self.sizes.get(archive, 0))
        note = {"md5": self.md5.get(archive), "files": [f"{type_dir}/{file}" for file in files]}
        write_json(_note(self.root, archive), note)
        if self.given is None:
            path.unlink()

    def _given(self, archive: Archive, folder: Path) -> Path:
        path = folder / archive.name
        if archive in self.md5 and _md5(path) != self.md5[archive]:
            raise InputError(
                f"{str(path)!r} is damaged or another version, because its MD5 is not {self.md5[archive]};"
                f" download it again"
            )
        return path

    def _fetched(self, archive: Archive) -> Path | None:
        """Return the complete and verified archive, or None if the download was stopped."""
        part = self.root / ".archives" / f"{archive.name}.part"
        url = f"{self.base_url}/records/{archive.record}/files/{archive.name}"
        for _ in range(2):
            if not self._fetch(archive, part, url):
                return None
            if _md5(part) == self.md5[archive]:
                return part
            part.unlink()  # start over once: the partial file may be of another version
        raise InputError(
            f"{url} is damaged at its source (its MD5 is not {self.md5[archive]}); try again later, or give"
            f" another address with --base-url"
        )

    def _fetch(self, archive: Archive, part: Path, url: str) -> bool:
        """Download an archive, resuming after every interruption; False if the download was stopped."""
        try:
            return fetch(
                url,
                part,
                size_bytes=self.sizes.get(archive),
                stopped=self.stopped,
                progress=lambda have, _: self._advance(archive, have),
            )
        except Interrupted as error:
            raise InputError(
                f"{url} cannot be downloaded ({error}); run the same command later to resume"
            ) from error
        except Refused as error:
            raise InputError(
                f"{url} {error}; give another address with --base-url, or a folder of downloaded archives"
                f" with --from"
            ) from error

    def _check_room(self, archives: Collection[Archive]) -> None:
        """Raise if archives and clips would not fit on the disk."""
        needed = 0
        for archive in archives:
            if self.given is not None:
                needed += sum(member.file_size for member in _members(self.given / archive.name))
            else:
                size = self.sizes.get(archive, 0)
                present = part_bytes(self.root / ".archives" / f"{archive.name}.part")
                needed += max(size - present, 0) + _UNPACKED_RATIO * size
        _check_room(self.root, needed)

    def _advance(self, archive: Archive, have: int) -> None:
        if self.progress is None:
            return
        with self._lock:
            self._done[archive] = have
            self.progress(sum(self._done.values()), sum(self.sizes.values()))


def unpack(
    archive: Path, type_dir: Path, *, clip_folders: Collection[str], stopped: threading.Event | None = None
) -> list[str] | None:
    """Unpack a zip archive of one machine type into its folder.

    Parameters
    ----------
    archive
        The zip file.
    type_dir
        Folder of the machine type. Files appear in it once every member is unpacked; existing files are
        replaced.
    clip_folders
        Names of the folders of clips; everything before them in a member's name is dropped.
    stopped
        Event that stops unpacking.

    Returns
    -------
    list of str
        The files, POSIX and relative to ``type_dir``; None if stopped.

    Raises
    ------
    InputError
        The archive is damaged, a member is outside the folder, a link, a special file or a duplicate, or its
        clips would be larger than recordings in an archive of that size can be or than the disk.
    """
    shown = repr(str(archive))
    targets: dict[str, zipfile.ZipInfo] = {}
    for member in _members(archive):
        target = _target(member, clip_folders, shown)
        if target is not None and targets.setdefault(target, member) is not member:
            raise InputError(f"{shown} contains {target!r} twice; download it again from its source")
    unpacked_bytes = sum(member.file_size for member in targets.values())
    most = _MOST_UNPACKED_RATIO * archive.stat().st_size + _MOST_UNPACKED_EXTRA_BYTES
    if unpacked_bytes > most:
        raise InputError(
            f"{shown} would unpack to {shown_bytes(unpacked_bytes)}, more than recordings can"
            f" ({shown_bytes(most)}); download it again from its source"
        )
    _check_room(type_dir, unpacked_bytes)
    staging = type_dir.with_name(f".{type_dir.name}-{archive.stem}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            for target, member in targets.items():
                if stopped is not None and stopped.is_set():
                    return None
                (staging / target).parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as packed, (staging / target).open("xb") as clip:
                    shutil.copyfileobj(packed, clip, _PIECE_BYTES)
        for target in targets:
            (type_dir / target).parent.mkdir(parents=True, exist_ok=True)
            (staging / target).replace(type_dir / target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(archive, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return list(targets)


def _members(archive: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(archive) as file:
            return file.infolist()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise _damaged(archive, error) from error


def _target(member: zipfile.ZipInfo, clip_folders: Collection[str], archive: str) -> str | None:
    """Return the path of a member in its machine type's folder, or None for a member to skip."""
    name = member.orig_filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or re.match("[A-Za-z]:", name) or "\0" in name or not parts:
        raise InputError(
            f"{archive} contains {member.orig_filename!r}, which is outside its folder; do not use it"
        )
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(
            f"{archive} contains {name!r}, a link or special file and not a recording; do not use it"
        )
    if member.is_dir() or kind == stat.S_IFDIR or parts[0] == "__MACOSX" or parts[-1].startswith("."):
        return None
    for depth, part in enumerate(parts[:-1]):
        if part in clip_folders:
            return "/".join(parts[depth:])
    return parts[-1]


def _check_given(folder: Path, archives: Iterable[Archive]) -> None:
    """Raise if a folder lacks archives."""
    missing = [archive.name for archive in archives if not (folder / archive.name).is_file()]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(
            f"{str(folder)!r} lacks {', '.join(missing[:3])}{more}; add them, name the machine types whose"
            f" archives it contains with --machines, or drop --from to download them"
        )


def _license_news(challenge: Challenge, facts: Mapping[int, RecordFacts], file: Path) -> list[str]:
    """Return the lines about the license that are not yet in ``file``, and add them to it."""
    licenses = {record: fact.license for record, fact in facts.items() if fact.license}
    lines = [f"License of record {record}: {license}." for record, license in sorted(licenses.items())]
    lines.append(f"License of {challenge.name}: {challenge.license}. Cite: {challenge.citation}")
    before = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    new = [line for line in lines if line not in before]
    if new:
        with replacing(file) as temporary:
            temporary.write_text("\n".join([*before, *new]) + "\n", encoding="utf-8")
    return new


def _asked(url: str) -> requests.Response | None:
    """Return the response of a record, or None if there is none."""
    answer = None
    for attempt in range(_ASKING_ATTEMPTS):
        pause_s = _BACK_OFF_S * 2**attempt
        try:
            answer = requests.get(url, timeout=_ASKING_TIMEOUT_S)
            if answer.status_code not in BUSY:
                return answer
            pause_s = max(pause_s, asked_pause_s(answer))
        except NO_ADDRESS as error:
            raise InputError(f"{url!r} is not a web address; give a --base-url such as {ZENODO}") from error
        except requests.RequestException:
            answer = None
        time.sleep(pause_s)
    return answer


def _record_facts(answer: requests.Response, url: str) -> RecordFacts:
    try:
        record = answer.json()
        files = {
            str(file["key"]): (int(file["size"]), str(file["checksum"]).removeprefix("md5:") or None)
            for file in record["files"]
        }
        license = record.get("metadata", {}).get("license") or {}
        return RecordFacts(files, license.get("id"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"the response of {url} is not a Zenodo record; give another --base-url") from error


def _check_room(folder: Path, needed_bytes: int) -> None:
    check_room(
        folder,
        needed_bytes,
        purpose="archives and clips",
        cure="free some space, or choose another folder with --output",
    )


def _note(root: Path, archive: Archive) -> Path:
    return root / ".archives" / f"{archive.name}.json"


def _unpacked_files(root: Path, archive: Archive) -> list[str] | None:
    """Return the unpacked files of an archive, or None if it was not unpacked or a file is gone."""
    note = _note(root, archive)
    if not note.exists():
        return None
    files: list[str] = read_json(note)["files"]
    return files if all((root / file).is_file() for file in files) else None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _damaged(archive: Path, error: Exception) -> InputError:
    return InputError(f"{str(archive)!r} is damaged ({error}); download it again from its source")
