"""Where a call finds data and results, and where it shows its progress."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from asdbench.api.surroundings import console_of, results_of, workspace_of
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace


def test_without_arguments_a_call_uses_the_places_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASDBENCH_STORAGE", str(tmp_path / "results"))
    assert workspace_of() == Workspace.from_environment()
    assert workspace_of(storage=str(tmp_path / "other")).storage.folder == tmp_path / "other"
    given = workspace_of(tmp_path / "mine")
    assert (given.home, given.storage.folder) == (tmp_path / "mine", tmp_path / "mine")


def test_a_storage_that_cannot_be_read_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be used"):
        results_of(tmp_path, str(tmp_path / "file"))


def test_progress_is_shown_on_a_terminal_only_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (False, True):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setattr(sys.stderr, "isatty", lambda shown=is_terminal: shown)
        for progress, is_shown in ((None, is_terminal), (True, True), (False, False)):
            written = sys.stderr.getvalue()  # type: ignore[attr-defined]
            console_of(progress).print("hello")
            assert ("hello" in sys.stderr.getvalue()[len(written) :]) is is_shown  # type: ignore[attr-defined]
    own = Console()
    assert console_of(own) is own
