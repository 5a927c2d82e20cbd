"""Retries: until the storage accepts, with reports, and not for errors that stay."""

import pytest

from asdbench.io import retry
from asdbench.io.retry import retry_until_stored
from asdbench.io.storage import StorageError


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
