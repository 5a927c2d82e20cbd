import os
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from asdbench.data import feature_store, node_copies
from asdbench.data.digests import digest_of, note_of
from asdbench.data.feature_store import FeatureSpec
from asdbench.data.node_copies import CopyList, FeatureFile, node_home, publish, reads_over_network
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InfrastructureError, InputError
from asdbench.io.storage import Storage, StorageError
from asdbench.io.workspace import Workspace, node_cache_dir
from asdbench.spec import MelSpec
from asdbench.testing import tiny_encoder, write_tiny
from asdbench.weights import store as weights_store

SPEC = MelSpec(hop_samples=512, n_mels=16)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home with a data set and its Arrow files."""
    base = tmp_path_factory.mktemp("mirror")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDBENCH_HOME", str(base / "home"))
        clips = write_tiny(base / "clips", source_clips=3, target_clips=1, test_clips_per_cell=1)
        data = catalog.add(Workspace.from_environment(), "tiny", clips)
        for machine_type in ("fan", "valve"):
            feature_store.mels(data, machine_type, SPEC, min_frames=1)
    return base / "home"


@pytest.fixture(autouse=True)
def home(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ASDBENCH_STORAGE", raising=False)
    return shutil.copytree(built, tmp_path / "home")


@pytest.fixture
def data(home: Path) -> DataSet:
    return catalog.load(Workspace.from_environment(), "tiny")


@pytest.fixture
def sources(data: DataSet) -> list[FeatureFile]:
    return [
        FeatureFile(data, "fan", feature_store.mel_path(data, "fan", SPEC, min_frames=1)),
        FeatureFile(data, "fan", feature_store.waveform_path(data, "fan")),
        FeatureFile(data, "valve", feature_store.mel_path(data, "valve", SPEC, min_frames=1)),
    ]


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    found: Storage = (
        request.getfixturevalue("s3") if request.param == "s3" else Storage.from_location(tmp_path / "shared")
    )
    return found


@pytest.fixture
def shared(tmp_path: Path) -> Storage:
    return Storage.from_location(tmp_path / "shared")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were copied to the node."""
    names, fetch = [], Storage.fetch

    def noted(self: Storage, name: str, to: Path) -> None:
        names.append(name)
        fetch(self, name, to)

    monkeypatch.setattr(Storage, "fetch", noted)
    return names


def files(manifest: CopyList) -> list[str]:
    return [file.name for file in manifest.files]


def use(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Be a worker that has no other data home."""
    monkeypatch.setenv("ASDBENCH_HOME", str(place))


# Publishing


def test_weights_reach_a_node_by_digest_and_can_be_read_there(
    data: DataSet, sources: list[FeatureFile], tmp_path: Path
) -> None:
    with tiny_encoder.registered():
        path = tiny_encoder.install(data.workspace)
        spec = FeatureSpec(data.name, "fan", SPEC, 1, False, weights=(tiny_encoder.ID,))
        storage = Storage.from_location(tmp_path / "storage")
        files = node_copies.weights_files(data.workspace, spec)
        copies = publish(sources, storage, weights_files=files)
        published = {file.name: file.digest for file in copies.files if file.name.startswith("weights/")}
        assert set(published) == {f"weights/{tiny_encoder.ID}/{name}" for name in (path.name, "receipt.json")}
        assert published[f"weights/{tiny_encoder.ID}/{path.name}"] == digest_of(path)
        node = Workspace.from_home(node_home(storage, copies, cache_dir=node_cache_dir()))
        assert node.home != data.workspace.home
        here, there = (weights_store.load(tiny_encoder.ID, place) for place in (data.workspace, node))
        assert all(torch.equal(here[name], there[name]) for name in here)
        shutil.rmtree(node.home)
        tampered = bytearray(path.read_bytes())
        tampered[-1] ^= 1
        (tmp_path / "storage" / "weights" / tiny_encoder.ID / path.name).write_bytes(tampered)
        with pytest.raises(InfrastructureError, match="differs from the published file"):
            node_home(storage, copies, cache_dir=node_cache_dir())


def test_a_node_gets_what_was_published(
    storage: Storage, data: DataSet, sources: list[FeatureFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = publish(sources, storage)
    assert files(manifest)[2:] == ["data/tiny/dataset.json", *(f"store/{of.path.name}" for of in sources)]
    expected = feature_store.mels(data, "fan", SPEC, min_frames=1).rows.copy()
    place = node_home(storage, pickle.loads(pickle.dumps(manifest)), cache_dir=node_cache_dir())
    use(monkeypatch, place)
    monkeypatch.setattr(feature_store, "_build", lambda *_: pytest.fail("built again"))
    there = catalog.load(Workspace.from_environment(), "tiny")
    assert there.fingerprint() == data.fingerprint()
    assert (feature_store.mels(there, "fan", SPEC, min_frames=1).rows == expected).all()
    assert feature_store.waveforms(there, "fan").path.parent == place / "store"
    assert place.stat().st_mode & 0o777 == place.parent.stat().st_mode & 0o777 == 0o700


def test_labels_are_not_published(storage: Storage, sources: list[FeatureFile]) -> None:
    publish(sources, storage)
    assert not [name for name in storage.names("") if "truth" in name]


def test_what_is_there_whole_is_not_published_again(
    storage: Storage, sources: list[FeatureFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(sources, storage)
    for method in ("put", "write"):
        monkeypatch.setattr(Storage, method, lambda *_, **__: pytest.fail("published again"))
    assert publish(sources, storage) == first


def test_what_is_not_whole_is_published_again(storage: Storage, sources: list[FeatureFile]) -> None:
    first = publish(sources, storage)
    storage.write(sources[0].name, b"cut")
    storage.delete(sources[1].name)
    (note,) = (name for name in (note_of(sources[2].name),) if storage.exists(name))
    storage.write(note, b"damaged")
    assert publish(sources, storage) == first
    for of in sources:
        assert storage.read(of.name) == of.path.read_bytes()


def test_a_registration_that_changed_is_published(
    storage: Storage, data: DataSet, sources: list[FeatureFile]
) -> None:
    publish(sources, storage)
    again = catalog.add(Workspace.from_environment(), "tiny", data.root, channels="near")
    manifest = publish([FeatureFile(again, "fan", feature_store.waveforms(again, "fan").path)], storage)
    record = storage.read_json("data/tiny/dataset.json")
    assert record["channels"] == "near"
    assert files(manifest)[:1] == [f"data/tiny/{record['clips']}"]


def test_the_first_of_two_drivers_gives_the_bytes(shared: Storage, sources: list[FeatureFile]) -> None:
    """Another processor may round a spectrogram otherwise; its file has the same name."""
    first = publish(sources, shared)
    content = bytearray(sources[0].path.read_bytes())
    content[-40] ^= 1
    sources[0].path.write_bytes(content)
    assert publish(sources, shared) == first
    node_home(shared, first, cache_dir=node_cache_dir())


def test_a_data_home_on_a_shared_disk_is_published_as_it_is(
    home: Path, sources: list[FeatureFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path for path in home.rglob("*") if not path.name.startswith(".")}
    manifest = publish(sources, Storage.from_location(home))
    assert {path for path in home.rglob("*") if not path.name.startswith(".")} == before
    assert node_home(Storage.from_location(home), manifest, cache_dir=node_cache_dir()) != home
    computed: list[Path] = []
    monkeypatch.setattr(node_copies, "digest_of", lambda path: computed.append(path) or digest_of(path))
    assert publish(sources, Storage.from_location(home)) == manifest
    assert computed == []
    os.utime(sources[0].path, ns=(1, 1))
    publish(sources, Storage.from_location(home))
    assert computed == [sources[0].path]


def test_an_arrow_file_that_is_gone_is_no_riddle(shared: Storage, sources: list[FeatureFile]) -> None:
    sources[0].path.unlink()
    with pytest.raises(InputError, match=r"\.arrow' is gone; run the same command again to rebuild it"):
        publish(sources, shared)


def test_a_damaged_arrow_file_is_not_published(shared: Storage, sources: list[FeatureFile]) -> None:
    publish(sources, Storage.from_location(sources[0].data.workspace.home))
    exchange(sources[0].path)
    with pytest.raises(InfrastructureError, match=r"\.arrow' was damaged and is removed; run the same"):
        publish(sources, shared)
    assert not sources[0].path.exists()


def test_a_job_gets_what_it_reads_alone(shared: Storage, sources: list[FeatureFile]) -> None:
    manifest = publish(sources, shared)
    assert files(publish(sources[2:], shared)) == [*files(manifest)[:3], sources[2].name]
    assert publish([], shared).files == ()


def test_the_storage_is_the_data_home_unless_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Workspace.from_environment().storage.folder == home
    monkeypatch.setenv("ASDBENCH_STORAGE", "s3://b/x")
    assert Workspace.from_environment().storage.uri == "s3://b/x"


# Copies on a node


def test_a_node_copies_once(
    storage: Storage, sources: list[FeatureFile], fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = publish(sources, storage)
    with ThreadPoolExecutor(6) as pool:  # a lock is of an open file, so that threads are as good as processes
        places = set(pool.map(lambda _: node_home(storage, manifest, cache_dir=node_cache_dir()), range(6)))
    assert len(places) == 1
    assert sorted(fetched) == sorted(files(manifest))
    monkeypatch.setattr(node_copies, "digest_of", lambda _: pytest.fail("computed again"))
    node_home(storage, manifest, cache_dir=node_cache_dir())
    assert len(fetched) == len(manifest.files)


def test_others_wait_for_the_one_that_copies(
    shared: Storage, sources: list[FeatureFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = publish(sources[:1], shared)
    copying, go_on, fetch = threading.Event(), threading.Event(), Storage.fetch

    def slow(self: Storage, name: str, to: Path) -> None:
        copying.set()
        go_on.wait(20)
        fetch(self, name, to)

    monkeypatch.setattr(Storage, "fetch", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(node_home, shared, manifest, cache_dir=node_cache_dir())
        copying.wait(20)
        second = pool.submit(node_home, shared, manifest, cache_dir=node_cache_dir())
        assert not second.done()
        assert not (tmp := next(Path(os.environ["ASDBENCH_CACHE"]).iterdir()) / sources[0].name).exists()
        go_on.set()
        assert first.result() == second.result()
    assert tmp.exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def exchange(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def forget(path: Path) -> None:
    Path(note_of(str(path))).unlink()


@pytest.mark.parametrize(
    ("change", "copies"), [(Path.unlink, 1), (cut, 1), (exchange, 1), (touch, 0), (forget, 0)]
)
def test_a_copy_that_is_not_whole_is_made_again(
    shared: Storage, sources: list[FeatureFile], fetched: list[str], change: Any, copies: int
) -> None:
    manifest = publish(sources, shared)
    place = node_home(shared, manifest, cache_dir=node_cache_dir())
    fetched.clear()
    change(place / sources[0].name)
    node_home(shared, manifest, cache_dir=node_cache_dir())
    assert fetched == [sources[0].name] * copies
    assert (place / sources[0].name).read_bytes() == sources[0].path.read_bytes()
    fetched.clear()
    node_home(shared, manifest, cache_dir=node_cache_dir())
    assert fetched == []


@pytest.mark.parametrize("bad", [1, 2])
def test_a_bad_copy_is_made_again_once(
    shared: Storage, sources: list[FeatureFile], monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    manifest = publish(sources, shared)
    tries, fetch = [], Storage.fetch

    def damaging(self: Storage, name: str, to: Path) -> None:
        fetch(self, name, to)
        if name == sources[0].name:
            tries.append(name)
            if len(tries) <= bad:
                exchange(to)

    monkeypatch.setattr(Storage, "fetch", damaging)
    if bad == 1:
        place = node_home(shared, manifest, cache_dir=node_cache_dir())
        assert (place / sources[0].name).read_bytes() == sources[0].path.read_bytes()
    else:
        with pytest.raises(
            InfrastructureError, match=r"differs from the published file; delete it there, then run the same"
        ):
            node_home(shared, manifest, cache_dir=node_cache_dir())
        assert not list(Path(os.environ["ASDBENCH_CACHE"]).rglob("*.arrow"))
    assert len(tries) == 2


def test_a_file_that_the_storage_lost_is_built_where_recordings_are(
    shared: Storage, data: DataSet, sources: list[FeatureFile], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = publish(sources[:1], shared)
    shared.delete(sources[0].name)
    place = node_home(shared, manifest, cache_dir=node_cache_dir())
    assert not (place / sources[0].name).exists()
    use(monkeypatch, place)
    built = feature_store.mels(catalog.load(Workspace.from_environment(), "tiny"), "fan", SPEC, min_frames=1)
    assert built.path == place / sources[0].name
    assert node_home(shared, manifest, cache_dir=node_cache_dir()) == place  # and it is kept
    built.path.unlink()
    elsewhere = data.root.rename(data.root.with_name("elsewhere"))
    try:
        with pytest.raises(
            InfrastructureError,
            match=r"has lost 'store/fan-mel-.*recordings of data set 'tiny' cannot .*; run the",
        ):
            node_home(shared, manifest, cache_dir=node_cache_dir())
    finally:
        elsewhere.rename(data.root)


def test_a_storage_that_cannot_be_reached_is_a_fault(
    shared: Storage, sources: list[FeatureFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = publish(sources, shared)

    def away(self: Storage, name: str, to: Path) -> None:
        raise StorageError("away", transient=True)

    monkeypatch.setattr(Storage, "fetch", away)
    with pytest.raises(StorageError, match="away"):
        node_home(shared, manifest, cache_dir=node_cache_dir())


def test_a_full_cache_says_so(
    shared: Storage, sources: list[FeatureFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = publish(sources, shared)

    def full(self: Storage, name: str, to: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Storage, "fetch", full)
    with pytest.raises(
        InfrastructureError, match=r"cannot keep .*cache.*No space left.*set ASDBENCH_CACHE to a folder"
    ):
        node_home(shared, manifest, cache_dir=node_cache_dir())


# Whose cache it is


def test_the_cache_is_the_users_own_by_default(
    shared: Storage, sources: list[FeatureFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASDBENCH_CACHE")
    monkeypatch.setenv("USER", "me")
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = node_home(shared, publish(sources, shared), cache_dir=node_cache_dir())
    assert place.parent == tmp_path / "asdbench-me"
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_others_could_fill_is_refused(
    tmp_path: Path, shared: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(
        InfrastructureError, match=r"belongs to another user or can be written by others.*ASDBENCH_CACHE"
    ):
        node_home(shared, CopyList(()), cache_dir=node_cache_dir())
    (tmp_path / "cache").chmod(0o755)
    node_home(shared, CopyList(()), cache_dir=node_cache_dir())
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(InfrastructureError, match="belongs to another user"):
        node_home(shared, CopyList(()), cache_dir=node_cache_dir())


def test_a_cache_that_cannot_be_made_is_named(
    tmp_path: Path, shared: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASDBENCH_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(
        InfrastructureError, match=r"cannot keep copies .*file/cache' \(Not a directory\); set ASDBENCH"
    ):
        node_home(shared, CopyList(()), cache_dir=node_cache_dir())


# Network file systems


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", False),
        ("/home/me", True),
        ("/homely", False),
        ("/home/local disk/x", False),
        ("/gluster/x", True),
        ("/twice", False),
    ],
)
def test_network_file_systems_are_known_by_their_mounts(tmp_path: Path, path: str, expected: bool) -> None:
    (tmp_path / "mounts").write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw\n"
        "24 23 8:2 / /home/local\\040disk rw - xfs /dev/sdb rw\n"
        "25 22 0:41 / /gluster rw - fuse.glusterfs server:/v rw\n"
        "26 22 0:42 / /twice rw - lustre server:/l rw\n"
        "27 22 8:3 / /twice rw - ext4 /dev/sdc rw\n"
    )
    assert reads_over_network(Path(path), mounts=tmp_path / "mounts") is expected


def test_without_a_list_of_mounts_nothing_is_a_network_disk(tmp_path: Path) -> None:
    assert not reads_over_network(tmp_path, mounts=tmp_path / "none")
    assert not reads_over_network(Path("/proc"))
