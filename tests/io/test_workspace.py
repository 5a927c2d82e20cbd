"""The workspace: where it is by default, what overrides it, and a home that cannot be written."""

import tempfile
from pathlib import Path

import pytest

from asdbench.errors import InputError
from asdbench.io import workspace as workspaces
from asdbench.io.storage import Storage, StorageError
from asdbench.io.workspace import Workspace, node_cache_dir


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASDBENCH_HOME", "ASDBENCH_STORAGE", "ASDBENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)


def test_the_storage_is_the_home_unless_it_is_given(tmp_path: Path) -> None:
    assert Workspace.from_home(tmp_path).storage == Storage.from_location(tmp_path)
    assert Workspace.from_home(tmp_path, storage="s3://b/x").storage == Storage.from_location("s3://b/x")


def test_the_job_store_is_in_the_storage(tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path, storage="s3://b/x?region=r")
    assert workspace.job_storage == Storage.from_location("s3://b/x/jobs?region=r")


def test_the_environment_names_home_and_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Workspace.from_environment().home.name == "asdbench"
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path))
    assert Workspace.from_environment() == Workspace.from_home(tmp_path)
    monkeypatch.setenv("ASDBENCH_STORAGE", "s3://b/x")
    assert Workspace.from_environment() == Workspace.from_home(tmp_path, storage="s3://b/x")


def test_an_argument_overrides_the_storage_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_STORAGE", "s3://b/x")
    assert Workspace.from_environment(storage="s3://b/y").storage == Storage.from_location("s3://b/y")


def test_the_home_is_created(tmp_path: Path) -> None:
    Workspace.from_home(tmp_path / "a" / "b").check_home()
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_home_that_is_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(InputError, match=r"cannot write to the data home '.*home' .*set ASDBENCH_HOME to"):
        Workspace.from_home(tmp_path / "home").check_home()


@pytest.mark.parametrize("writable", [False, True])
def test_a_storage_that_cannot_be_used_is_bad_input(tmp_path: Path, writable: bool) -> None:
    Workspace.from_home(tmp_path / "new").check_storage(writable=writable)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"the storage '.*file' cannot be used .*--storage or ASDBENCH_STOR"):
        Workspace.from_home(tmp_path, storage=tmp_path / "file").check_storage(writable=writable)


def test_a_storage_that_is_away_is_tried_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[StorageError] = []

    def check(_: Storage) -> None:
        if faults:
            raise faults.pop()

    monkeypatch.setattr(workspaces, "_RETRY_S", 0.0)
    monkeypatch.setattr(Storage, "check", check)
    workspace = Workspace.from_home(tmp_path)
    faults[:] = [StorageError("stale", transient=True)]
    workspace.check_storage(writable=True)
    faults[:] = [StorageError("no space left", transient=True, full=True)]
    workspace.check_storage(writable=True)
    assert faults == []
    faults[:] = [StorageError("stale", transient=True)] * 2
    with pytest.raises(InputError, match="stale"):
        workspace.check_storage(writable=True)


def test_the_cache_is_the_variable_or_a_folder_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    assert node_cache_dir().parent == Path(tempfile.gettempdir())
    assert node_cache_dir().name.startswith("asdbench-")
    monkeypatch.setenv("ASDBENCH_CACHE", "relative")
    assert node_cache_dir() == Path.cwd() / "relative"
