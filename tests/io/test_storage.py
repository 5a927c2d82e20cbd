import contextlib
import errno
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from asdbench.errors import InputError
from asdbench.io import storage as storages
from asdbench.io.storage import Storage, StorageError

REFUSED = (
    "When initiating multiple part upload for key 'x' in bucket 'b': AWS Error NETWORK_CONNECTION during "
    "CreateMultipartUpload operation: curlCode: 7, Could not connect to server"
)
DENIED = "When reading information for key 'x': AWS Error ACCESS_DENIED during HeadObject (Request ID: ab12)"


@pytest.fixture(params=["folder", "s3", "mock"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A folder; an object store; and what stands for any other file system that pyarrow knows."""
    if request.param == "s3":
        found: Storage = request.getfixturevalue("s3")
        return found
    return Storage.from_location(tmp_path / "place" if request.param == "folder" else "mock:///place")


def test_what_is_written_is_there(storage: Storage) -> None:
    assert not storage.exists("a/one.json")
    assert storage.size_bytes("a/one.json") is None
    storage.write_json("a/one.json", {"b": [1, None], "a": "ä"})
    assert storage.read_json("a/one.json") == {"b": [1, None], "a": "ä"}
    storage.write("a/b/two.bin", b"123")
    storage.write("a/b/two.bin", b"45")
    assert storage.read("a/b/two.bin") == b"45"
    assert storage.size_bytes("a/b/two.bin") == 2
    assert storage.exists("a/b/two.bin")
    assert not storage.exists("a/b")
    assert storage.names("") == storage.names("a") == ["a/b/two.bin", "a/one.json"]
    assert storage.names("a", ".json") == ["a/one.json"]
    assert storage.names("", "/one.json") == ["a/one.json"]
    assert storage.names("none") == []
    storage.delete("a/one.json")
    storage.delete("a/one.json")
    assert storage.names("a") == ["a/b/two.bin"]
    storage.delete_folder("a")
    storage.delete_folder("a")
    assert storage.names("") == []


def test_versions_tell_what_was_written_again(storage: Storage) -> None:
    storage.write("a/b/one.json", b"1")
    storage.write("a/two.json", b"2")
    before = storage.versions("a", ".json")
    assert list(before) == storage.names("a", ".json") == ["a/b/one.json", "a/two.json"]
    assert storage.versions("a", ".json") == before
    storage.write("a/two.json", b"22")
    after = storage.versions("a", ".json")
    assert after["a/b/one.json"] == before["a/b/one.json"]
    assert after["a/two.json"] != before["a/two.json"]
    assert storage.versions("none") == {}


def test_sizes_are_those_of_all_files_in_a_folder(storage: Storage) -> None:
    storage.write("a/b/c.json", b"123")
    storage.write("a/d", b"")
    storage.write("e", b"1")
    assert storage.sizes_bytes("a") == {"a/b/c.json": 3, "a/d": 0}
    assert storage.sizes_bytes("nowhere") == {}


def test_a_linked_folder_is_no_file(tmp_path: Path) -> None:
    storage = Storage.from_location(tmp_path / "place")
    storage.write("a/one", b"1")
    (tmp_path / "place" / "linked").symlink_to(tmp_path)
    (tmp_path / "place" / "a" / "gone").symlink_to("nowhere")
    assert storage.names("") == ["a/one"]


def test_many_files_are_read_in_order(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asdbench.io.storage._BATCH", 3)
    for number in range(7):
        storage.write(f"a/{number}", b"%d" % number)
    assert [content for _, content in storage.read_each(storage.names("a"))] == [b"%d" % n for n in range(7)]


def test_a_new_file_is_written_once(storage: Storage) -> None:
    assert storage.write_new("a/it", b"first")
    assert not storage.write_new("a/it", b"second")
    assert storage.read("a/it") == b"first"
    assert storage.names("") == ["a/it"]


def test_what_is_not_there_is_not_found(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read("none")
    with pytest.raises(FileNotFoundError):
        storage.fetch("none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    storage.write("there", b"1")
    assert list(storage.read_each(["none", "there", "none"])) == [("there", b"1")]


def test_a_damaged_record_is_named_with_the_cure(storage: Storage) -> None:
    storage.write("it.json", b'{"a": 1')
    with pytest.raises(InputError, match=r"/it\.json' is damaged \(.*\); delete it, then run the same"):
        storage.read_json("it.json")


def test_a_content_that_fails_leaves_what_was_there(storage: Storage) -> None:
    def half(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise RuntimeError("in the middle")

    storage.write("it", lambda stream: stream.write(b"whole"))
    for name in ("it", "new"):
        with pytest.raises(RuntimeError, match="in the middle"):
            storage.write(name, half)
    assert storage.names("") == ["it"]
    assert storage.read("it") == b"whole"


def test_large_files_are_copied_both_ways(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asdbench.io.storage._CHUNK_BYTES", 1000)
    (tmp_path / "large").write_bytes(content := os.urandom(12_345))
    storage.put(tmp_path / "large", "far/large")
    assert storage.read("far/large") == content
    storage.fetch("far/large", tmp_path / "near" / "copy")
    assert (tmp_path / "near" / "copy").read_bytes() == content
    assert list((tmp_path / "near").iterdir()) == [tmp_path / "near" / "copy"]


def test_a_storage_travels(storage: Storage) -> None:
    storage.check()
    assert storage.names("") == []
    again = pickle.loads(pickle.dumps(storage))
    assert again == storage == Storage.from_location(storage.uri) == Storage.from_location(storage)
    again.check()


def test_a_folder_within(storage: Storage) -> None:
    storage.within("jobs").within("a/b").check()
    if "mock" not in storage.uri:  # each connection to that one is a place of its own
        storage.within("jobs").write("a/it", b"1")
        assert storage.read("jobs/a/it") == b"1"
    assert Storage.from_location("s3://u:p@b/x/?region=r").within("jobs").uri == "s3://u:p@b/x/jobs?region=r"
    assert Storage.from_location("s3://b").within("jobs").uri == "s3://b/jobs"
    assert Storage.from_location("hdfs:///x").within("jobs").uri == "hdfs:///x/jobs"  # no folder named hdfs:


def test_folders_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert (
        Storage.from_location("place").folder
        == Storage.from_location(Path("place")).folder
        == tmp_path / "place"
    )
    assert Storage.from_location("~/place").uri == "/home/me/place"
    assert Storage.from_location("file:///a%20b/c").uri == "/a b/c"
    assert Storage.from_location("s3://b/x").folder is None
    with pytest.raises(InputError, match=r"a file on the host 'other'; a folder of this one is file:///"):
        Storage.from_location("file://other/a")


def test_a_folder_is_read_from_its_path(tmp_path: Path, s3: Storage) -> None:
    assert Storage.from_location(tmp_path).readable("a/b") == tmp_path / "a/b"
    s3.write("a", b"1")
    stream = s3.readable("a")
    assert not isinstance(stream, Path)
    assert stream.read() == b"1"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://user:hidden@b/x?region=r",
        "s3://hidden@b/x?region=r",
        "abfs://c@host/x?client_secret=hidden&region=r",
        "gs://b/x?region=r&access_token=hidden",
    ],
)
def test_passwords_are_not_shown(uri: str) -> None:
    storage = Storage.from_location(uri)
    assert storage.uri == uri
    for shown in (str(storage), repr(storage), f"{storage}"):
        assert "hidden" not in shown
        assert "region=r" in shown


# What goes wrong


def test_a_place_that_is_none_says_so_in_a_sentence(tmp_path: Path, s3_bucket: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place, why in (
        (str(tmp_path / "file"), "exists|Not a directory"),
        ("htp://user:hidden@host/x", "Unrecognized filesystem type"),
        ("s3://user:hidden@b/x?nooption=3", "Unexpected query parameter"),
        (s3_bucket.replace("results", "nowhere"), "NO_SUCH_BUCKET"),
    ):
        storage = Storage.from_location(place)
        with pytest.raises(StorageError, match=rf"{why}.*; fix this, or choose another storage") as found:
            storage.check()
        assert str(storage) in str(found.value)
        assert "hidden" not in str(found.value)
        assert "Request ID" not in str(found.value)
        assert not found.value.transient
        assert found.value.__cause__ is None or "hidden" not in str(found.value.__cause__)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed at the end of the test
                while True:
                    connections.append(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def test_a_silent_server_is_reported_in_half_a_minute(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert storages._ATTEMPTS * (storages._SILENCE_S + 1) < 30  # and a pause of less than 1 s after each
    monkeypatch.setattr(storages, "_SILENCE_S", 1.0)
    query = f"scheme=http&endpoint_override={silent_server}&region=us-east-1"
    storage = Storage.from_location(f"s3://user:hidden@bucket/x?{query}")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot be reached .*too slow.* check the server") as error:
        storage.read("it")
    assert time.monotonic() - began < 10
    assert error.value.transient
    assert "hidden" not in str(error.value)


def test_options_in_the_uri_hold_with_timeouts(s3_bucket: str) -> None:
    system, _ = Storage.from_location(f"{s3_bucket}&allow_delayed_open=true")._remote
    _, (options,) = system.__reduce__()
    assert options["access_key"] == "user"
    assert options["allow_delayed_open"]
    assert options["endpoint_override"] in s3_bucket
    assert 0 < options["connect_timeout"] < options["request_timeout"] < 30


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    storage = Storage.from_location(tmp_path)
    storage.write("it", b"old")

    def full(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=rf"{tmp_path}.*{os.strerror(number)}") as found:
        storage.write("it", b"new")
    assert found.value.transient
    assert ("no space left" in str(found.value)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert pickle.loads(pickle.dumps(found.value)).full == (number in (errno.ENOSPC, errno.EDQUOT))
    assert list(tmp_path.iterdir()) == [tmp_path / "it"]
    assert storage.read("it") == b"old"


@pytest.mark.parametrize(
    ("message", "transient", "shown"),
    [(REFUSED, True, "cannot be reached"), (DENIED, False, "cannot be used")],
)
def test_the_words_of_an_object_store_tell_what_may_pass(message: str, transient: bool, shown: str) -> None:
    class Gone:
        def __getattr__(self, name: str) -> Any:
            raise OSError(message)

    storage = Storage.from_location("s3://user:hidden@b/x")
    vars(storage)["_remote"] = (Gone(), "b/x")
    for action in (
        storage.check,
        lambda: storage.exists("x"),
        lambda: storage.names(""),
        lambda: storage.read("x"),
    ):
        with pytest.raises(StorageError, match=shown) as found:
            action()
        assert found.value.transient is transient
        again = pickle.loads(pickle.dumps(found.value))
        assert (str(again), again.transient) == (str(found.value), transient)
