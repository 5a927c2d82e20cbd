"""Downloading weights from servers that lie."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from asdbench.errors import InfrastructureError, InputError
from asdbench.io import download as io_download
from asdbench.io.download import only_one
from asdbench.io.workspace import Workspace
from asdbench.weights import obtain
from asdbench.weights.obtain import get
from asdbench.weights.records import WeightsRecord
from asdbench.weights.store import load, verify, weights_dir, weights_path
from tests.weights.checkpoints import ced_bytes, record_of
from tests.weights.conftest import Register
from tests.weights.lying_server import LyingServer

CONTENT = ced_bytes()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io_download, "_BACK_OFF_S", 0.01)
    monkeypatch.setattr(io_download, "_LONGEST_BACK_OFF_S", 0.02)


@pytest.fixture
def server() -> Iterator[LyingServer]:
    lying = LyingServer(CONTENT)
    yield lying
    lying.close()


def yes(_: WeightsRecord) -> bool:
    return True


def mirrored(server: LyingServer, *, known: bool = True) -> WeightsRecord:
    return record_of(CONTENT, f"{server.url}/a", f"{server.url}/b", known=known)


def no_parts(workspace: Workspace) -> bool:
    folder = weights_dir(workspace, "ced-tiny")
    return {path.name for path in folder.iterdir()} <= {
        "lock",
        "ced-tiny.safetensors",
        "receipt.json",
        "license.json",
    }


@pytest.mark.parametrize("known", [True, False], ids=["known checksum", "unknown checksum"])
def test_weights_are_downloaded_once(
    known: bool, workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server, known=known))
    receipt = get(workspace, "ced-tiny", accept=yes)
    assert receipt.source == f"{server.url}/a"
    assert receipt.first_use is not known
    assert load("ced-tiny", workspace)
    assert no_parts(workspace)
    assert get(workspace, "ced-tiny", accept=lambda _: False) == receipt
    assert len(server.asked) == 1


@pytest.mark.parametrize("known", [True, False], ids=["known checksum", "unknown checksum"])
@pytest.mark.parametrize("fault", ["drop", "whole", "longer", 429, 500, 503])
def test_a_passing_fault_is_overcome_at_the_same_mirror(
    known: bool, fault: int | str, workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server, known=known))
    server.faults["/a"] = ["drop", fault]
    assert get(workspace, "ced-tiny", accept=yes).source == f"{server.url}/a"
    assert load("ced-tiny", workspace)


@pytest.mark.parametrize("known", [True, False], ids=["known checksum", "unknown checksum"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (403, "responds with 403 Forbidden"),
        (404, "responds with 404 Not Found"),
        ("500!", "was given up because the server is busy"),
        ("drop!", "was given up because the connection"),
        ("shorter!", "gives another file"),
        ("html!", "responds with a web page in place of the file"),
        ("nameless html!", ""),
        ("loop!", "redirects without end"),
        ("wrong!", "gives another file"),
        ("drip!", "was given up because it took longer than 0.3 s"),
    ],
)
def test_the_next_mirror_follows_one_that_lies(
    fault: int | str,
    reason: str,
    known: bool,
    workspace: Workspace,
    register: Register,
    server: LyingServer,
) -> None:
    register(mirrored(server, known=known))
    server.faults["/a"] = [fault]
    said: list[str] = []
    timeout_s = 0.3 if fault == "drip!" else 60.0
    receipt = get(workspace, "ced-tiny", accept=yes, say=said.append, timeout_s=timeout_s)
    assert receipt.source == f"{server.url}/b"
    assert verify(workspace, "ced-tiny").state == "intact"
    assert load("ced-tiny", workspace)
    assert len(said) == 1
    assert f"{server.url}/a" in said[0]
    if not (fault == "shorter!" and known):
        assert reason in said[0]
    assert no_parts(workspace)


def test_all_mirrors_that_fail_are_named_with_the_cure(
    workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server))
    server.faults.update({"/a": [404], "/b": ["wrong!"]})
    with pytest.raises(InfrastructureError) as error:
        get(workspace, "ced-tiny", accept=yes)
    assert "/a responds with 404 Not Found; " in str(error.value)
    assert "/b gives another file: its SHA-256 is" in str(error.value)
    assert "'asdbench weights add ced-tiny --from FILE'" in str(error.value)
    assert not weights_path(workspace, register(mirrored(server))).exists()


@pytest.mark.parametrize("note", [b"{}", b"[]", b"\xff", b"{"])
def test_a_damaged_note_of_the_license_is_asked_for_again(
    note: bytes, workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server))
    folder = weights_dir(workspace, "ced-tiny")
    folder.mkdir(parents=True)
    (folder / "license.json").write_bytes(note)
    with pytest.raises(InputError, match="was not accepted"):
        get(workspace, "ced-tiny", accept=lambda _: False)
    assert get(workspace, "ced-tiny", accept=yes).license == "Apache-2.0"


def test_a_file_in_place_of_the_folder_is_named_with_the_cure(
    workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server))
    workspace.home.mkdir()
    (workspace.home / "weights").write_bytes(b"")
    with pytest.raises(InputError, match=r"/weights/ced-tiny.*Not a directory.*set ASDBENCH_HOME"):
        get(workspace, "ced-tiny", accept=yes)


def test_a_folder_that_cannot_be_written_is_named_with_the_cure(
    workspace: Workspace, register: Register, server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(mirrored(server))

    def denied(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", lambda path, **_: path.name == "ced-tiny" and denied(path))
        patched.setattr(Workspace, "check_home", lambda _: None)
        with pytest.raises(InputError, match=r"cannot write to .*ced-tiny' \(Permission denied\); make it"):
            get(workspace, "ced-tiny", accept=yes)
    with monkeypatch.context() as patched:
        patched.setattr(obtain, "write_receipt", lambda of, receipt: denied(weights_dir(of, receipt.weights)))
        with pytest.raises(InputError, match=r"ced-tiny' cannot be used \(Permission denied\); let"):
            get(workspace, "ced-tiny", accept=yes)


def test_intact_weights_in_a_shared_home_are_found_without_writing(
    workspace: Workspace, register: Register, server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(mirrored(server))
    receipt = get(workspace, "ced-tiny", accept=yes)
    monkeypatch.setattr(obtain, "only_one", lambda *_, **__: pytest.fail("locked"))
    monkeypatch.setattr(Workspace, "check_home", lambda _: pytest.fail("written"))
    assert get(workspace, "ced-tiny", accept=yes) == receipt


@pytest.mark.parametrize("known", [True, False], ids=["known checksum", "unknown checksum"])
def test_a_damaged_receipt_is_replaced_unless_it_alone_knew_the_checksum(
    known: bool, workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server, known=known))
    receipt = get(workspace, "ced-tiny", accept=yes)
    (weights_dir(workspace, "ced-tiny") / "receipt.json").write_bytes(b"{")
    assert verify(workspace, "ced-tiny").state == "damaged"
    if known:
        assert get(workspace, "ced-tiny", accept=yes).sha256 == receipt.sha256
        assert verify(workspace, "ced-tiny").state == "intact"
    else:
        with pytest.raises(InputError, match=r"delete .*ced-tiny', then run 'asdbench weights get"):
            get(workspace, "ced-tiny", accept=yes)


def test_an_endless_file_is_cut_off(
    workspace: Workspace, register: Register, server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obtain, "_LIMIT_BYTES", 1_000_000)
    register(mirrored(server, known=False))
    server.faults["/a"] = ["endless"]
    said: list[str] = []
    assert get(workspace, "ced-tiny", accept=yes, say=said.append).source.endswith("/b")
    assert said == [f"{server.url}/a sends more than 1.0 MB"]


def test_the_next_call_resumes_where_the_last_one_broke_off(
    workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server))
    server.faults.update({"/a": ["drop", "500!"], "/b": ["500!"]})
    with pytest.raises(InfrastructureError, match="no mirror gives 'ced-tiny'"):
        get(workspace, "ced-tiny", accept=yes)
    server.faults.clear()
    server.asked.clear()
    get(workspace, "ced-tiny", accept=yes)
    assert server.asked == [("/a", f"bytes={len(CONTENT) // 2}-")]


def test_a_content_that_changes_between_resumes_is_never_mixed(
    workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server, known=False))
    server.faults.update({"/a": ["drop", "500!"], "/b": ["500!"]})
    with pytest.raises(InfrastructureError):
        get(workspace, "ced-tiny", accept=yes)
    server.faults.clear()
    server.content, server.etag = ced_bytes(seed=1), '"2"'
    get(workspace, "ced-tiny", accept=yes)
    assert weights_path(workspace, mirrored(server)).read_bytes() == ced_bytes(seed=1)


def test_a_changed_content_with_a_known_checksum_is_found_out(
    workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server))
    server.content = ced_bytes(seed=1)
    server.faults["/a"] = ["drop", "500!"]
    server.faults["/b"] = ["500!"]
    with pytest.raises(InfrastructureError):
        get(workspace, "ced-tiny", accept=yes)
    server.faults.clear()
    server.content = CONTENT
    get(workspace, "ced-tiny", accept=yes)
    assert weights_path(workspace, mirrored(server)).read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_checksum_and_version_nothing_is_resumed(
    etag: str | None, workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server, known=False))
    server.etag = etag
    server.faults["/a"] = ["drop"]
    get(workspace, "ced-tiny", accept=yes)
    assert server.asked == [("/a", None), ("/a", None)]


def test_a_changed_file_is_not_trusted_in_the_place_of_the_first(
    workspace: Workspace, register: Register, server: LyingServer
) -> None:
    record = register(mirrored(server, known=False))
    first = get(workspace, "ced-tiny", accept=yes)
    weights_path(workspace, record).unlink()
    server.content = ced_bytes(seed=1)
    with pytest.raises(InfrastructureError, match=f"its SHA-256 is .*, not {first.sha256[:16]}") as error:
        get(workspace, "ced-tiny", accept=yes)
    folder = weights_dir(workspace, "ced-tiny")
    assert str(error.value).endswith(f"; to trust another file than the first, delete {str(folder)!r}")
    shutil.rmtree(folder)
    assert get(workspace, "ced-tiny", accept=yes).sha256 != first.sha256


def test_a_damaged_file_is_replaced(workspace: Workspace, register: Register, server: LyingServer) -> None:
    record = register(mirrored(server))
    get(workspace, "ced-tiny", accept=yes)
    weights_path(workspace, record).write_bytes(CONTENT[:-1] + b"x")
    get(workspace, "ced-tiny", accept=yes)
    assert verify(workspace, "ced-tiny").state == "intact"


def test_a_license_is_accepted_once(workspace: Workspace, register: Register, server: LyingServer) -> None:
    record = register(mirrored(server))
    with pytest.raises(InputError, match=r"the license Apache-2\.0 of 'ced-tiny' was not accepted"):
        get(workspace, "ced-tiny", accept=lambda _: False)
    assert server.asked == []
    server.faults.update({"/a": [404], "/b": [404]})
    with pytest.raises(InfrastructureError, match="no mirror gives"):
        get(workspace, "ced-tiny", accept=yes)
    assert get(workspace, "ced-tiny", accept=lambda _: False).license == "Apache-2.0"
    weights_path(workspace, record).unlink()
    assert get(workspace, "ced-tiny", accept=lambda _: False)


def test_progress_tells_bytes_and_total(
    workspace: Workspace, register: Register, server: LyingServer
) -> None:
    register(mirrored(server, known=False))
    told: list[tuple[int, int | None]] = []
    get(workspace, "ced-tiny", accept=yes, progress=lambda have, total: told.append((have, total)))
    assert told[0] == (0, None)
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_full_disk_and_a_second_download_are_refused(
    workspace: Workspace, register: Register, server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(mirrored(server))
    folder = weights_dir(workspace, "ced-tiny")
    with (
        only_one(folder, target=folder, cure="-"),
        pytest.raises(InputError, match="another process is downloading"),
    ):
        get(workspace, "ced-tiny", accept=yes)
    usage = io_download.shutil.disk_usage(Path.cwd())
    monkeypatch.setattr(io_download.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(InputError, match="are needed"):
        get(workspace, "ced-tiny", accept=yes)
    assert server.asked == []
