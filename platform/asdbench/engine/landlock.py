"""Linux Landlock: a thread gives up reading some folders, for itself and all that it starts.

Source: the kernel's documentation, "Landlock: unprivileged access control". A ruleset names what is allowed,
so that a folder is denied by allowing everything next to it, along its ancestors. Reading files, listing
folders, and linking or moving files to other folders are restricted; whoever may not read what is in a folder
may still create something there.

Known departures
----------------
What appears in an ancestor of a denied folder after the ruleset was made cannot be read either. A thread that
runs already, such as one of a library's pool, is not restricted.
"""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls, the same on all architectures
_NO_NEW_PRIVILEGES = 38
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR, _REFER = 1 << 2, 1 << 3, 1 << 13
_FIRST_WITH_REFER = 2  # of the versions of Landlock; the first one denies moving files at all


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def has_landlock() -> bool:
    """Return whether the kernel has a Landlock that can restrict reading alone."""
    if sys.platform != "linux":
        return False
    return bool(_libc().syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG) >= _FIRST_WITH_REFER)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def deny_reading(places: Sequence[Path]) -> bool:
    """Let this thread, and all that it starts, no longer read ``places``; return whether the kernel does it.

    Parameters
    ----------
    places : files and folders, resolved; those that do not exist are left out
    """
    if not has_landlock():
        return False
    libc, handled = _libc(), _Ruleset(_READ_FILE | _READ_DIR | _REFER)
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)
    if ruleset < 0:
        return False
    try:
        for path, access in _allowed(Path("/"), frozenset(p for p in places if p.exists())):
            _add_rule(libc, ruleset, path, access)
        is_set = libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
        return is_set and bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def _allowed(folder: Path, denied: frozenset[Path]) -> Iterator[tuple[Path, int]]:
    """Yield what is allowed in an ancestor of denied places, with the access."""
    ancestors = {parent for place in denied for parent in place.parents}
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if path in denied or entry.is_symlink():  # what a link leads to is allowed, or not, where it is
            continue
        if path in ancestors:
            yield from _allowed(path, denied)
        else:
            yield path, _READ_FILE | _READ_DIR | _REFER if entry.is_dir() else _READ_FILE


def _add_rule(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it has vanished, or is another user's
        return
    rule = _PathBeneath(access, file)
    libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    os.close(file)
