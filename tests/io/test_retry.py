"""Retries: until the storage accepts, with reports, and not for errors that stay."""

import errno
import inspect
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asdbench.io import retry
from asdbench.io.retry import RetryingStorage, retry_until_stored
from asdbench.io.storage import Storage, StorageError


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_RETRY_S", 0.0)


class Flaky:
    """An action that raises the given errors, then returns 7."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 7


def test_an_action_is_repeated_until_it_succeeds_and_reported_once() -> None:
    reports: list[str] = []
    action = Flaky(StorageError("full", True), StorageError("still full", True))
    assert retry_until_stored(action, on_wait=reports.append) == 7
    assert reports == ["full"]  # the second is within the minute


def test_the_wait_is_reported_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_REPORT_S", 0.0)
    reports: list[str] = []
    retry_until_stored(Flaky(StorageError("a", True), StorageError("b", True)), on_wait=reports.append)
    assert reports == ["a", "b"]


def test_an_error_that_stays_is_raised_only_on_request() -> None:
    reports: list[str] = []
    assert retry_until_stored(Flaky(StorageError("no permission")), on_wait=reports.append) == 7
    assert reports == ["no permission"]
    with pytest.raises(StorageError, match="no permission"):
        retry_until_stored(Flaky(StorageError("no permission")), on_wait=reports.append, transient_only=True)


def test_other_errors_are_not_retried() -> None:
    with pytest.raises(KeyError):
        retry_until_stored(Flaky(KeyError("x")), on_wait=print)


# A storage that retries

OPERATIONS: dict[str, Callable[[Storage, Path], object]] = {
    "size_bytes": lambda storage, _: storage.exists("it"),
    "names": lambda storage, _: storage.names(""),
    "versions": lambda storage, _: storage.versions(""),
    "read": lambda storage, _: storage.read_json("it"),
    "read each": lambda storage, _: list(storage.read_each(["it"])),
    "write": lambda storage, _: storage.write_json("it", 2),
    "write_new": lambda storage, _: storage.write_new("new", b"1"),
    "delete": lambda storage, _: storage.delete("it"),
    "set_aside": lambda storage, _: storage.set_aside("it", "why"),
    "delete_folder": lambda storage, _: storage.delete_folder("none"),
    "fetch": lambda storage, path: storage.fetch("it", path / "copy"),
    "put": lambda storage, path: storage.put(path / "place" / "it", "other"),
    "check": lambda storage, _: storage.check(),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_of_a_retrying_storage_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    storage = RetryingStorage(str(tmp_path / "place"))
    storage.write_json("it", 1)
    faults = [OSError(errno.ESTALE, os.strerror(errno.ESTALE))] * 2
    reaching = Storage._reaching

    @contextmanager
    def faulty(self: Storage, *, writing: bool = False) -> Iterator[None]:
        with reaching(self, writing=writing):
            if faults:
                raise faults.pop()
            yield

    monkeypatch.setattr(Storage, "_reaching", faulty)
    OPERATIONS[operation](storage, tmp_path)
    assert faults == []
    assert "waiting: the storage" in caplog.text
    assert caplog.text.count("Stale file handle") == 1


def test_a_retrying_storage_raises_what_stays_and_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be used"):
        RetryingStorage(str(tmp_path / "file")).write("it", b"1")
    with pytest.raises(FileNotFoundError):
        RetryingStorage(str(tmp_path)).read("none")


def test_a_retrying_storage_travels_as_one(tmp_path: Path) -> None:
    storage = RetryingStorage(str(tmp_path)).within("jobs")
    assert pickle.loads(pickle.dumps(storage)) == storage == RetryingStorage(str(tmp_path / "jobs"))
    assert Storage.from_location(storage) is storage


def test_every_operation_of_a_storage_retries() -> None:
    """A method that reaches the storage by itself has to be overridden."""
    reaching = {
        name
        for name, method in vars(Storage).items()
        if inspect.isfunction(method) and "_reaching" in method.__code__.co_names and name != "_reaching"
    }
    assert "read" in reaching
    assert reaching <= vars(RetryingStorage).keys()
