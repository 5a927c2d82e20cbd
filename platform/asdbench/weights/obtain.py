"""Obtaining weights: downloaded from a record's mirrors, or added from a file, and checked in both cases.

A file gets its name in the data home only when its size and SHA-256 are the right ones and it holds tensors
and nothing else. Where a record has no SHA-256, a partial download is resumed only if the server confirms
that the file is unchanged, since nothing else would notice a mixture of two versions.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from asdbench.errors import InfrastructureError, InputError
from asdbench.io.download import (
    Interrupted,
    Progress,
    Refused,
    check_room,
    drop_part,
    fetch,
    only_one,
    part_bytes,
)
from asdbench.io.files import read_json, replacing, write_json
from asdbench.io.records import RecordError
from asdbench.io.workspace import Workspace
from asdbench.weights.records import WeightsRecord, named
from asdbench.weights.store import (
    Receipt,
    read_receipt,
    sha256_of,
    unusable,
    verify,
    weights_dir,
    weights_path,
    write_receipt,
)
from asdbench.weights.tensors import NotTensors, read_tensors

TIMEOUT_S = 7200.0
_ATTEMPTS = 4
_LIMIT_BYTES = 4_000_000_000  # for weights whose size nobody has published

Accept = Callable[[WeightsRecord], bool]
Say = Callable[[str], None]


class _NoMirror(Exception):
    """What is wrong with each mirror."""


class _WrongContent(Exception):
    """Why a complete file is not the weights, as a clause."""


def get(
    workspace: Workspace,
    weights_id: str,
    *,
    accept: Accept,
    say: Say = lambda _: None,
    progress: Progress | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Receipt:
    """Download the weights of an id, unless the data home holds them intact.

    Parameters
    ----------
    workspace
        Whose data home gets them.
    weights_id
        Id of the registry.
    accept
        Asked with the record whether its license is accepted; only where it has not been accepted before.
    say
        Called with a line for the user about each mirror that fails.
    progress
        Called with the bytes so far and the total, if that is known.
    timeout_s
        The most that each mirror may take.

    Raises
    ------
    InputError
        There is no such id, the license is not accepted, the disk is full, or another process downloads the
        same weights.
    InfrastructureError
        No mirror gives the file. Partial downloads are kept, and the next call resumes.
    """
    record = named(weights_id)
    if (there := _intact(workspace, record)) is not None:
        return there  # also from a home that others share and that cannot be written
    workspace.check_home()
    folder = weights_dir(workspace, weights_id)
    with _locked(workspace, folder):
        if (there := _intact(workspace, record)) is not None:
            return there
        expected, receipt = verify(workspace, weights_id).expected, _receipt(workspace, record)
        _check_license(record, folder, accept)
        part = folder / f"{record.file_name}.part"
        needed = max((record.size_bytes or 0) - part_bytes(part), 0)
        check_room(folder, needed, purpose="weights", cure="free some space there")
        try:
            source = _from_mirrors(record, part, expected, say, progress, timeout_s)
        except _NoMirror as error:
            raise InfrastructureError(
                f"no mirror gives {weights_id!r} ({error}); try again later, or download it in another way "
                f"and run 'asdbench weights add {weights_id} --from FILE'"
                f"{_trust_hint(record, receipt, folder)}"
            ) from error
        return _keep(workspace, record, part, source)


def add(workspace: Workspace, weights_id: str, file: Path, *, accept: Accept) -> Receipt:
    """Copy the weights of an id from a file that was obtained in another way.

    Parameters
    ----------
    workspace
        Whose data home gets them.
    weights_id
        Id of the registry.
    file
        The file as its publisher distributes it; it stays where it is.
    accept
        As in :func:`get`.

    Raises
    ------
    InputError
        There is no such id or file, the license is not accepted, or the file is not these weights.
    """
    record = named(weights_id)
    if not file.is_file():
        raise InputError(f"there is no file {str(file)!r}; name the file of {weights_id!r} with --from")
    workspace.check_home()
    folder = weights_dir(workspace, weights_id)
    with _locked(workspace, folder):
        receipt = _receipt(workspace, record)
        try:
            _check_content(record, file, verify(workspace, weights_id).expected)
        except _WrongContent as error:
            raise InputError(
                f"{str(file)!r} is not {weights_id!r}, because {error}; run 'asdbench weights get "
                f"{weights_id}', or download it from {record.mirrors[0]}"
                f"{_trust_hint(record, receipt, folder)}"
            ) from error
        _check_license(record, folder, accept)
        check_room(folder, file.stat().st_size, purpose="weights", cure="free some space there")
        with replacing(folder / f"{record.file_name}.part") as temporary:
            shutil.copyfile(file, temporary)
        return _keep(workspace, record, folder / f"{record.file_name}.part", str(file.absolute()))


@contextmanager
def _locked(workspace: Workspace, folder: Path) -> Iterator[None]:
    """Lock the folder of an id; whatever cannot be read or written within is an :class:`InputError`."""
    try:
        with only_one(
            folder,
            target=folder,
            cure="make it a folder that you can write to, or set ASDBENCH_HOME to another one",
        ):
            yield
    except OSError as error:
        raise unusable(workspace, error) from error


def _intact(workspace: Workspace, record: WeightsRecord) -> Receipt | None:
    """Return the receipt of intact weights in the data home; ``None`` if there are none."""
    is_intact = verify(workspace, record.id).state == "intact"
    return read_receipt(workspace, record.id) if is_intact else None


def _receipt(workspace: Workspace, record: WeightsRecord) -> Receipt | None:
    """Return the receipt; a damaged one counts as none unless it alone knows the first file's SHA-256."""
    try:
        return read_receipt(workspace, record.id)
    except RecordError:
        if record.sha256 is None:
            raise
        return None


def _accepted_license(note: Path) -> object:
    """Return which license was accepted; ``None`` if none was, or if the note is damaged."""
    try:
        content = read_json(note)
    except (FileNotFoundError, InputError):
        return None
    return content.get("license") if isinstance(content, dict) else None


def _check_license(record: WeightsRecord, folder: Path, accept: Accept) -> None:
    """Ask for the license, once; raise if it is not accepted."""
    note = folder / "license.json"
    if _accepted_license(note) == record.license.name:
        return
    if not accept(record):
        raise InputError(
            f"the license {record.license.name} of {record.id!r} was not accepted; read it at "
            f"{record.license.url}, then add --accept-license"
        )
    write_json(note, {"license": record.license.name, "url": record.license.url, "accepted": _now()})


def _trust_hint(record: WeightsRecord, receipt: Receipt | None, folder: Path) -> str:
    """Return how to trust another file than the first, for weights without a published SHA-256."""
    if record.sha256 is not None or receipt is None:
        return ""
    return f"; to trust another file than the first, delete {str(folder)!r}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _from_mirrors(
    record: WeightsRecord,
    part: Path,
    expected: str | None,
    say: Say,
    progress: Progress | None,
    timeout_s: float,
) -> str:
    """Return the mirror that has given the file, which is complete and checked in ``part``."""
    reasons = []
    for url in record.mirrors:
        try:
            _from_mirror(record, url, part, expected, progress, timeout_s)
            return url
        except Interrupted as error:
            reasons.append(f"{url} was given up because {error}")
        except Refused as error:
            reasons.append(f"{url} {error}")
        except _WrongContent as error:
            reasons.append(f"{url} gives another file: {error}")
        say(reasons[-1])
    raise _NoMirror("; ".join(reasons))


def _from_mirror(
    record: WeightsRecord,
    url: str,
    part: Path,
    expected: str | None,
    progress: Progress | None,
    timeout_s: float,
) -> None:
    """Download the file from one mirror; start over once if a partial download was of another version."""
    for resumed in (part_bytes(part) > 0, False):
        fetch(
            url,
            part,
            size_bytes=record.size_bytes,
            limit_bytes=_LIMIT_BYTES,
            timeout_s=timeout_s,
            attempts=_ATTEMPTS,
            unchanged_only=expected is None,
            progress=progress,
        )
        try:
            _check_content(record, part, expected)
            return
        except _WrongContent:
            drop_part(part)
            if not resumed:
                raise


def _check_content(record: WeightsRecord, file: Path, expected: str | None) -> None:
    """Raise unless a complete file has the right size and SHA-256, and holds the encoder's tensors only."""
    size = file.stat().st_size
    if record.size_bytes is not None and size != record.size_bytes:
        raise _WrongContent(f"it has {size} bytes, not {record.size_bytes}")
    if expected is not None and (sha256 := sha256_of(file)) != expected:
        raise _WrongContent(f"its SHA-256 is {sha256[:16]}..., not {expected[:16]}...")
    try:
        read_tensors(file, record)
    except NotTensors as error:
        raise _WrongContent(str(error)) from error


def _keep(workspace: Workspace, record: WeightsRecord, part: Path, source: str) -> Receipt:
    """Give a checked file its name, and store its receipt."""
    receipt = Receipt(
        weights=record.id,
        sha256=sha256_of(part),
        size_bytes=part.stat().st_size,
        source=source,
        obtained=_now(),
        license=record.license.name,
        first_use=record.sha256 is None,
    )
    with replacing(weights_path(workspace, record)) as temporary:
        part.replace(temporary)
    drop_part(part)
    write_receipt(workspace, receipt)
    return receipt
