"""Claims: one run at a time, whose claims end, and who waits for whom."""

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from asdbench.engine import claims
from asdbench.engine.claims import Claim, ClaimedError, claim, live_claims, wait_for_claim
from asdbench.io.records import RecordError, record_to_json
from asdbench.io.storage import Storage, StorageError

NAME = "claims/studies/x.json"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_HEARTBEAT_S", 0.05)
    monkeypatch.setattr(claims, "_SETTLE_S", 0.1)
    monkeypatch.setattr(claims, "_RETRY_S", 0.02)


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3":
        found: Storage = request.getfixturevalue("s3")
        return found
    return Storage.from_location(tmp_path)


@pytest.fixture
def dead_process() -> int:
    """The id of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def put(storage: Storage, **changes: object) -> Claim:
    """Write the claim of another run."""
    other = msgspec.structs.replace(claims._new_claim("theirs"), **changes)
    storage.write(NAME, record_to_json(other))
    return other


def test_a_claim_says_who_holds_it_and_ends(storage: Storage) -> None:
    with claim(storage, "studies/x", run="ours") as held:
        record = storage.read_json(NAME)
        assert record["run"] == "ours"
        assert record["pid"] == os.getpid()
        with (
            pytest.raises(ClaimedError, match=r"^run ours of .* on .*, since 2.*, works on") as no,
            claim(storage, "studies/x", run="theirs"),
        ):
            pytest.fail("two runs hold it")
        assert no.value.holder.token == held.record.token
        assert pickle.loads(pickle.dumps(no.value)).holder == no.value.holder
        with claim(storage, "studies/y", run="theirs"):
            pass
    assert storage.names("") == []
    with claim(storage, "studies/x", run="theirs"):
        pass


def test_the_heartbeat_is_refreshed(tmp_path: Path) -> None:
    storage = Storage.from_location(tmp_path)
    with claim(storage, "studies/x", run="ours"):
        first = storage.read_json(NAME)
        wait_until(lambda: storage.read_json(NAME)["heartbeat_unix_s"] > first["heartbeat_unix_s"])
        assert storage.read_json(NAME)["since_unix_s"] == first["since_unix_s"]


def test_one_of_many_gets_it(storage: Storage) -> None:
    barrier = threading.Barrier(8)

    def attempt(run: int) -> bool:
        barrier.wait()
        try:
            with claim(storage, "studies/x", run=str(run)):
                time.sleep(0.5)
        except ClaimedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_one_of_many_takes_over_a_dead_one(tmp_path: Path, dead_process: int) -> None:
    put(Storage.from_location(tmp_path), pid=dead_process)
    test_one_of_many_gets_it(Storage.from_location(tmp_path))


def test_the_claim_of_a_process_that_is_gone_is_taken_over(storage: Storage, dead_process: int) -> None:
    put(storage, pid=dead_process)
    with claim(storage, "studies/x", run="ours"):
        assert storage.read_json(NAME)["run"] == "ours"


def test_a_process_of_another_container_is_not_looked_up(tmp_path: Path, dead_process: int) -> None:
    storage = Storage.from_location(tmp_path)
    put(storage, pid=dead_process, processes="another container")
    with pytest.raises(ClaimedError), claim(storage, "studies/x", run="ours"):
        pytest.fail("its heartbeat is young")


@pytest.mark.parametrize("host", [None, "elsewhere"])
@pytest.mark.parametrize("age_s", [40, -3600])
def test_a_claim_without_heartbeat_is_taken_over(tmp_path: Path, host: str | None, age_s: float) -> None:
    """The other host's clock may be an hour ahead."""
    storage = Storage.from_location(tmp_path)
    changes = {} if host is None else {"host": host, "processes": host}
    put(storage, heartbeat_unix_s=time.time() - age_s, **changes)
    with claim(storage, "studies/x", run="ours"):
        assert storage.read_json(NAME)["run"] == "ours"


def test_another_hosts_clock_may_be_behind(tmp_path: Path) -> None:
    storage = Storage.from_location(tmp_path)
    behind = {"host": "elsewhere", "processes": "elsewhere"}
    put(storage, heartbeat_unix_s=time.time() - 40, **behind)
    beat = threading.Timer(0.05, lambda: put(storage, heartbeat_unix_s=time.time() - 40, **behind))
    beat.start()
    with pytest.raises(ClaimedError, match="on elsewhere"), claim(storage, "studies/x", run="ours"):
        pytest.fail("its heart beats")
    beat.join()


def test_a_run_takes_over_its_own_claim_and_the_lost_one_stays_away(tmp_path: Path) -> None:
    storage = Storage.from_location(tmp_path)
    with claim(storage, "studies/x", run="ours") as first:
        with claim(storage, "studies/x", run="ours") as second:
            wait_until(lambda: first.is_lost)
            first.release()
            assert storage.read_json(NAME)["token"] == second.record.token
            assert not second.is_lost
        assert storage.names("") == []


def test_a_damaged_claim_is_nobodys_and_one_of_another_version_is_somebodys(tmp_path: Path) -> None:
    storage = Storage.from_location(tmp_path)
    storage.write(NAME, b"{")
    with claim(storage, "studies/x", run="ours"):
        pass
    storage.write(NAME, json.dumps({"schema_version": 99}).encode())
    with (
        pytest.raises(RecordError, match="wait for the run of that version"),
        claim(storage, "studies/x", run="us"),
    ):
        pytest.fail("it is held")


def test_a_storage_that_is_away_for_a_while_loses_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, write, faults = Storage.from_location(tmp_path), Storage.write, []

    def away(self: Storage, name: str, content: bytes) -> None:
        if len(faults) < 2:
            faults.append(name)
            raise StorageError("stale", transient=True)
        write(self, name, content)

    monkeypatch.setattr(Storage, "write", away)
    with claim(storage, "studies/x", run="ours") as held:
        first = storage.read_json(NAME)
        wait_until(lambda: storage.read_json(NAME)["heartbeat_unix_s"] > first["heartbeat_unix_s"])
        assert not held.is_lost
    assert faults == [NAME, NAME]


def test_who_waits_is_told_for_whom_and_goes_on(storage: Storage) -> None:
    messages: list[str] = []
    retries: list[None] = []
    with ThreadPoolExecutor(1) as pool:
        with claim(storage, "studies/x", run="theirs"):
            waiting = pool.submit(_claimed, storage, messages, lambda: retries.append(None))
            wait_until(lambda: len(messages) == 1 and len(retries) > 2)
            assert not waiting.done()
        assert waiting.result(timeout=10) == "ours"
    assert len(messages) == 1
    assert messages[0].startswith("run theirs of ")


def _claimed(storage: Storage, messages: list[str], on_retry: Callable[[], object] = lambda: None) -> str:
    claiming = wait_for_claim(storage, "studies/x", run="ours", on_wait=messages.append, on_retry=on_retry)
    with claiming as held:
        return held.record.run


def test_who_waits_is_told_of_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults: Iterator[StorageError] = iter([StorageError("stale", transient=True), StorageError("denied")])
    monkeypatch.setattr(Storage, "write_new", lambda *_: raise_(next(faults)))
    messages: list[str] = []
    with pytest.raises(StorageError, match="denied"):
        _claimed(Storage.from_location(tmp_path), messages)
    assert messages == ["stale"]


def raise_(error: Exception) -> None:
    raise error


def wait_until(holds: object, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.01)


def test_live_claims_are_those_of_living_processes(storage: Storage, dead_process: int) -> None:
    assert live_claims(storage) == {}
    other = put(storage)
    assert live_claims(storage) == {"studies/x": other}
    put(storage, pid=dead_process)
    assert live_claims(storage) == {}
    put(storage, heartbeat_unix_s=0.0)
    assert live_claims(storage) == {}


def test_a_claim_of_a_host_with_another_clock_lives_if_its_heartbeat_moves(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"host": "elsewhere", "processes": "others", "heartbeat_unix_s": 0.0}
    put(storage, **elsewhere)
    assert live_claims(storage) == {}
    monkeypatch.setattr(time, "sleep", lambda _: put(storage, **elsewhere | {"heartbeat_unix_s": 5.0}))
    assert list(live_claims(storage)) == ["studies/x"]
