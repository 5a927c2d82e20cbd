"""Getting archives from a server that misbehaves, and unpacking archives that do."""

import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import hmean
from sklearn.metrics import roc_auc_score

from asdbench.cli.main import main
from asdbench.data.sets import catalog, download
from asdbench.data.sets.challenges import CHALLENGES, Archive, Challenge, Subset, named
from asdbench.engine.evaluation import anomaly_scores
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.errors import InputError
from asdbench.io import download as io_download
from asdbench.io.workspace import Workspace
from asdbench.report.score_intervals import score_intervals
from tests.miniatures import MINIATURES, MiniatureClip, Written, write_miniature

CLIP_FOLDERS = ("train", "test")
MINIATURE_OF = {
    "dcase2020": "machine ids",
    "dcase2021": "domain folders",
    "dcase2022": "several sections",
    "dcase2023": "first shot",
    "dcase2024": "no attributes",
    "dcase2025": "supplement",
    "dcase2026": "two microphones",
}


class Zenodo:
    """A server that answers as Zenodo does, and per archive misbehaves as told.

    ``faults`` holds for each archive what becomes of its next requests, in turn: a status to answer with,
    ``"drop"`` (half of what is asked for, then the connection ends), ``"longer"`` and ``"shorter"`` (a wrong
    Content-Length), ``"whole"`` (the range is ignored), ``"stall"`` (half, then nothing until ``go_on``).
    ``"api"`` stands for the records.
    """

    def __init__(self) -> None:
        self.files: dict[tuple[int, str], bytes] = {}
        self.checksums: dict[str, str] = {}
        self.tells_records = True
        self.faults: defaultdict[str, list[int | str]] = defaultdict(list)
        self.asked: list[tuple[str, str | None]] = []  # archive, range
        self.retry_after = "0"
        self.go_on = threading.Event()
        zenodo = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                zenodo.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def add(self, archive: Archive, content: bytes) -> None:
        self.files[archive.record, archive.name] = content

    def ranges(self, name: str) -> list[str | None]:
        return [range_ for asked, range_ in self.asked if asked == name]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if found := re.fullmatch("/api/records/([0-9]+)", request.path):
            if self.faults["api"]:
                self._refuse(request, int(self.faults["api"].pop(0)))
                return
            self._tell_record(request, int(found[1]))
            return
        found = re.fullmatch("/records/([0-9]+)/files/(.+)", request.path)
        content = self.files.get((int(found[1]), found[2])) if found else None
        if found is None or content is None:
            request.send_error(404)
            return
        name = found[2]
        asked = request.headers["Range"]
        self.asked.append((name, asked))
        fault = self.faults[name].pop(0) if self.faults[name] else None
        if isinstance(fault, int):
            self._refuse(request, fault)
            return
        first = int(asked[len("bytes=") : -1]) if asked and fault != "whole" else 0
        if first >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if first else 200)
        if first:
            request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        rest = content[first:]
        wrong = {"longer": 1000, "shorter": len(rest) // 2 - len(rest)}.get(str(fault), 0)
        request.send_header("Content-Length", str(len(rest) + wrong))
        request.end_headers()
        half = fault in ("drop", "stall")
        request.wfile.write(rest[: len(rest) // 2] if half else rest)
        request.wfile.flush()
        if fault == "stall":
            self.go_on.wait(30)

    def _refuse(self, request: BaseHTTPRequestHandler, status: int) -> None:
        request.send_response(status)
        request.send_header("Retry-After", self.retry_after)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _tell_record(self, request: BaseHTTPRequestHandler, record: int) -> None:
        files = [
            {
                "key": name,
                "size": len(content),
                "checksum": f"md5:{self.checksums.get(name) or hashlib.md5(content).hexdigest()}",
            }
            for (of, name), content in self.files.items()
            if of == record
        ]
        if not files or not self.tells_records:
            request.send_error(404)
            return
        told = json.dumps({"files": files, "metadata": {"license": {"id": "cc-by-4.0"}}}).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(told)))
        request.end_headers()
        request.wfile.write(told)


@pytest.fixture
def zenodo() -> Iterator[Zenodo]:
    server = Zenodo()
    yield server
    server.go_on.set()
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(download, "_BACK_OFF_S", 0.01)
    monkeypatch.setattr(io_download, "_BACK_OFF_S", 0.01)
    monkeypatch.setattr(io_download, "_LONGEST_BACK_OFF_S", 0.05)
    return tmp_path / "home"


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return packed.getvalue()


def small(*machines: str) -> Challenge:
    """Return a challenge with one development archive a machine type."""
    archives = tuple(Archive(1, f"dev_{machine}.zip", machine) for machine in machines)
    dev = Subset(dict.fromkeys(machines, ("00",)), archives)
    return replace(named("dcase2023"), name="small", subsets={"dev": dev})


def content_of(machine: str) -> bytes:
    generator = random.Random(machine)
    return zipped({f"{machine}/train/{k}.wav": generator.randbytes(40_000) for k in range(3)})


@pytest.fixture
def fan(zenodo: Zenodo, home: Path) -> Challenge:
    challenge = small("fan")
    zenodo.add(challenge.subsets["dev"].archives[0], content_of("fan"))
    return challenge


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".archives" not in path.parts
    }


def clips_of(*machines: str) -> dict[str, bytes]:
    found = {}
    for machine in machines:
        with zipfile.ZipFile(io.BytesIO(content_of(machine))) as file:
            found |= {f"dev_data/{name}": file.read(name) for name in file.namelist()}
    return found


def asdbench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        ([], [None]),
        (["drop", "drop"], [None, "half", "three quarters"]),
        (["longer"], [None]),
        (["shorter"], [None, "half"]),
        (["drop", "whole"], [None, "half"]),
        ([429, 503, "drop", 502], [None, None, None, "half", "half"]),
    ],
    ids=str,
)
def test_what_a_server_does_wrong_is_mended(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path, faults: list[int | str], ranges: list[str | None]
) -> None:
    zenodo.faults["dev_fan.zip"] = list(faults)
    download.get(fan, tmp_path / "data", base_url=zenodo.url)
    assert {k: v for k, v in tree(tmp_path / "data").items() if k != "LICENSE.txt"} == clips_of("fan")
    size = len(content_of("fan"))
    starts = {"half": size // 2, "three quarters": size // 2 + (size - size // 2) // 2}
    assert zenodo.ranges("dev_fan.zip") == [r and f"bytes={starts[r]}-" for r in ranges]
    assert not list((tmp_path / "data" / ".archives").glob("*.part"))


def test_a_length_that_nobody_knows_is_settled_by_the_checksum(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path
) -> None:
    md5 = hashlib.md5(content_of("fan")).hexdigest()
    (archive,) = fan.subsets["dev"].archives
    challenge = replace(
        fan, subsets={"dev": replace(fan.subsets["dev"], archives=(replace(archive, md5=md5),))}
    )
    zenodo.tells_records = False
    zenodo.faults["dev_fan.zip"] = ["shorter", "longer"]
    download.get(challenge, tmp_path, base_url=zenodo.url)
    assert clips_of("fan").items() <= tree(tmp_path).items()


def test_a_wrong_checksum_is_fetched_once_more_and_then_refused(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path
) -> None:
    zenodo.checksums["dev_fan.zip"] = "0" * 32
    with pytest.raises(InputError, match=r"dev_fan.zip is damaged at its source \(its MD5 is not 0000"):
        download.get(fan, tmp_path, base_url=zenodo.url)
    assert zenodo.ranges("dev_fan.zip") == [None, None]
    assert set(tree(tmp_path)) == {"LICENSE.txt"}
    assert not list((tmp_path / ".archives").glob("*.part"))


def test_published_checksums_hold_at_zenodo_and_a_mirror_may_tell_others(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive,) = fan.subsets["dev"].archives
    published = replace(fan.subsets["dev"], archives=(replace(archive, md5="1" * 32),))
    challenge = replace(fan, subsets={"dev": published})
    said: list[str] = []
    download.get(challenge, tmp_path / "mirror", base_url=zenodo.url, say=said.append)
    assert said[-1] == "note: the checksums of 1 archives differ from the published ones"
    monkeypatch.setattr(download, "ZENODO", zenodo.url)
    with pytest.raises(InputError, match=r"dev_fan.zip is damaged at its source \(its MD5 is not 1111"):
        download.get(challenge, tmp_path / "itself", base_url=zenodo.url)


def test_a_part_of_another_version_is_thrown_away(fan: Challenge, zenodo: Zenodo, tmp_path: Path) -> None:
    (tmp_path / ".archives").mkdir()
    (tmp_path / ".archives" / "dev_fan.zip.part").write_bytes(b"x" * 5000)
    download.get(fan, tmp_path, base_url=zenodo.url)
    assert zenodo.ranges("dev_fan.zip") == ["bytes=5000-", None]
    assert clips_of("fan").items() <= tree(tmp_path).items()


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_asked_again(fan: Challenge, zenodo: Zenodo, tmp_path: Path, status: int) -> None:
    zenodo.faults["dev_fan.zip"] = [status]
    with pytest.raises(InputError, match=f"dev_fan.zip responds with {status}"):
        download.get(fan, tmp_path, base_url=zenodo.url)
    assert len(zenodo.asked) == 1


def test_a_server_that_stays_busy_is_given_up_and_what_came_is_kept(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path
) -> None:
    zenodo.faults["dev_fan.zip"] = ["drop", *[503] * 20]
    with pytest.raises(
        InputError, match=r"cannot be downloaded \(the server is busy\); run the same command later"
    ):
        download.get(fan, tmp_path, base_url=zenodo.url)
    zenodo.faults.clear()
    zenodo.asked.clear()
    download.get(fan, tmp_path, base_url=zenodo.url)
    assert zenodo.ranges("dev_fan.zip") == [f"bytes={len(content_of('fan')) // 2}-"]


@pytest.mark.parametrize("busy", ["dev_fan.zip", "api"])
def test_a_busy_server_says_how_long_to_wait(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path, busy: str
) -> None:
    zenodo.faults[busy] = [429]
    zenodo.retry_after = "1"
    begun = time.monotonic()
    download.get(fan, tmp_path, base_url=zenodo.url)
    assert time.monotonic() - begun >= 1


def test_a_busy_server_that_talks_nonsense_is_asked_again(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path
) -> None:
    zenodo.faults["dev_fan.zip"], zenodo.faults["api"] = [503], [503, 500]
    zenodo.retry_after = "soon"
    download.get(fan, tmp_path, base_url=zenodo.url)
    assert clips_of("fan").items() <= tree(tmp_path).items()


def test_archives_are_fetched_side_by_side(zenodo: Zenodo, home: Path, tmp_path: Path) -> None:
    challenge = small("fan", "pump")
    for archive in challenge.subsets["dev"].archives:
        zenodo.add(archive, content_of(archive.machine_type))
        zenodo.faults[archive.name] = ["stall"]
    getting = threading.Thread(
        target=download.get, args=(challenge, tmp_path), kwargs={"base_url": zenodo.url}
    )
    getting.start()
    until = time.monotonic() + 10
    while len(zenodo.asked) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert {name for name, _ in zenodo.asked} == {"dev_fan.zip", "dev_pump.zip"}
    zenodo.go_on.set()
    getting.join()
    assert clips_of("fan", "pump").items() <= tree(tmp_path).items()


def test_one_archive_that_fails_leaves_the_finished_ones(zenodo: Zenodo, home: Path, tmp_path: Path) -> None:
    challenge = small("fan", "pump")
    for archive in challenge.subsets["dev"].archives:
        zenodo.add(archive, content_of(archive.machine_type))
    zenodo.checksums["dev_pump.zip"] = "0" * 32
    with pytest.raises(InputError, match=r"dev_pump.zip is damaged at its source"):
        download.get(challenge, tmp_path, base_url=zenodo.url, threads=1)
    assert not (tmp_path / "dev_data" / "pump").exists()
    zenodo.checksums.clear()
    zenodo.asked.clear()
    fetched = download.get(challenge, tmp_path, base_url=zenodo.url)
    assert {name for name, _ in zenodo.asked} == {"dev_pump.zip"}
    assert fetched.new_archives == 1
    assert fetched.files == set(clips_of("fan", "pump"))


def test_nothing_is_asked_when_all_is_there_and_a_lost_clip_is_got_again(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path
) -> None:
    first = download.get(fan, tmp_path, base_url=zenodo.url)
    zenodo.asked.clear()
    again = download.get(fan, tmp_path, base_url="http://127.0.0.1:9")
    assert (again.files, again.new_archives) == (first.files, 0)
    assert first.clips == set(clips_of("fan"))
    (tmp_path / "dev_data/fan/train/0.wav").unlink()
    download.get(fan, tmp_path, base_url=zenodo.url)
    assert len(zenodo.asked) == 1
    assert clips_of("fan").items() <= tree(tmp_path).items()


def test_the_license_is_shown_once_and_kept(fan: Challenge, zenodo: Zenodo, tmp_path: Path) -> None:
    said: list[str] = []
    download.get(fan, tmp_path, base_url=zenodo.url, say=said.append)
    assert said[0] == "License of record 1: cc-by-4.0."
    assert "assume non-commercial use" in said[1]
    assert (tmp_path / "LICENSE.txt").read_text().splitlines() == said
    (tmp_path / "dev_data/fan/train/0.wav").unlink()
    said.clear()
    download.get(fan, tmp_path, base_url=zenodo.url, say=said.append)
    assert said == []


def test_progress_counts_what_was_there_before(fan: Challenge, zenodo: Zenodo, tmp_path: Path) -> None:
    size = len(content_of("fan"))
    (tmp_path / ".archives").mkdir()
    (tmp_path / ".archives" / "dev_fan.zip.part").write_bytes(content_of("fan")[:30_000])
    steps: list[tuple[int, int]] = []
    download.get(fan, tmp_path, base_url=zenodo.url, progress=lambda *step: steps.append(step))
    assert steps[0] == (30_000, size)
    assert steps[-1] == (size, size)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=200_000))
    with pytest.raises(InputError, match=r"361\.\d kB are needed in .* 200.0 kB are free; free some space"):
        download.get(fan, tmp_path / "data", base_url=zenodo.url)
    assert not zenodo.asked


def test_no_checksum_is_no_download(fan: Challenge, zenodo: Zenodo, tmp_path: Path) -> None:
    zenodo.tells_records = False
    with pytest.raises(InputError, match=r"no checksum is known for 'dev_fan.zip'"):
        download.get(fan, tmp_path, base_url=zenodo.url)
    assert not zenodo.asked


def test_a_record_without_the_archive_is_named(zenodo: Zenodo, home: Path, tmp_path: Path) -> None:
    zenodo.add(Archive(1, "dev_pump.zip", "pump"), content_of("pump"))
    with pytest.raises(InputError, match=r"record 1 at http.* has no file 'dev_fan.zip'"):
        download.get(small("fan"), tmp_path, base_url=zenodo.url)


@pytest.mark.parametrize(
    ("address", "message"),
    [("zenodo", "is not a web address"), ("http://", "is not a web address")],
)
def test_an_address_that_is_none(home: Path, tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        download.get(small("fan"), tmp_path, base_url=address)


def test_an_answer_that_is_not_a_records(
    fan: Challenge, zenodo: Zenodo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "dumps", lambda _: "<html>")
    with pytest.raises(InputError, match="is not a Zenodo record"):
        download.get(fan, tmp_path, base_url=zenodo.url)


def test_two_processes_do_not_fill_one_folder(fan: Challenge, zenodo: Zenodo, tmp_path: Path) -> None:
    zenodo.faults["dev_fan.zip"] = ["stall"]
    first = threading.Thread(target=download.get, args=(fan, tmp_path), kwargs={"base_url": zenodo.url})
    first.start()
    while not zenodo.asked:
        time.sleep(0.01)
    with pytest.raises(InputError, match="another process is downloading to"):
        download.get(fan, tmp_path, base_url=zenodo.url)
    zenodo.go_on.set()
    first.join()


def test_a_folder_that_cannot_be_written(fan: Challenge, zenodo: Zenodo, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write to .*data.*; choose another folder with --output"):
        download.get(fan, tmp_path / "data", base_url=zenodo.url)


def test_a_download_that_was_killed_goes_on_from_where_it_was(
    zenodo: Zenodo, home: Path, tmp_path: Path
) -> None:
    (archive,) = named("dcase2023").archives(subsets=["dev"], machine_types=["fan"])["dev"]
    content = _archives_of_a_miniature(named("dcase2023"), tmp_path)[1][archive]
    zenodo.add(archive, content)
    zenodo.faults[archive.name] = ["stall"]
    command = ["data", "get", "dcase2023", "--machines", "fan", "--base-url", zenodo.url]
    process = subprocess.Popen(
        [sys.executable, "-m", "asdbench", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    part = home / "recordings" / "dcase2023" / ".archives" / f"{archive.name}.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size == len(content) // 2):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    zenodo.go_on.set()
    assert catalog.names(Workspace.from_environment()) == []
    assert asdbench(*command) == 0
    assert zenodo.ranges(archive.name) == [None, f"bytes={len(content) // 2}-"]
    assert catalog.load(Workspace.from_environment(), "dcase2023").machine_types == ("fan",)


# Unpacking


def special(name: str, mode: int, content: bytes = b"/etc/passwd") -> Callable[[zipfile.ZipFile], None]:
    def write(file: zipfile.ZipFile) -> None:
        member = zipfile.ZipInfo(name)
        member.create_system = 3
        member.external_attr = mode << 16
        file.writestr(member, content)

    return write


def plain(name: str, content: bytes = b"x") -> Callable[[zipfile.ZipFile], None]:
    return lambda file: file.writestr(name, content)


BAD_MEMBERS = {
    "parent": (plain("fan/../../out.wav"), "is outside its folder"),
    "parent in folder": (plain("fan/train/../../../out.wav"), "is outside its folder"),
    "absolute": (plain("/out.wav"), "is outside its folder"),
    "backslash": (plain("..\\out.wav"), "is outside its folder"),
    "drive": (plain("C:/out.wav"), "is outside its folder"),
    "symlink": (special("fan/train/a.wav", 0o120777), "a link or special file"),
    "pipe": (special("fan/train/a.wav", 0o010600), "a link or special file"),
    "bomb": (plain("fan/train/a.wav", bytes(80 << 20)), r"would unpack to 83\.9 MB, more than"),
    "twice": (
        lambda file: [plain("fan/train/a.wav")(file), plain("x/train/a.wav")(file)],
        "contains 'train/a.wav' twice",
    ),
}


@pytest.mark.parametrize("kind", BAD_MEMBERS)
def test_an_archive_that_would_do_harm_is_refused_whole(
    zenodo: Zenodo, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    write, message = BAD_MEMBERS[kind]
    (archive,) = named("dcase2023").archives(subsets=["dev"], machine_types=["fan"])["dev"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("fan/train/good.wav", b"good")
        write(file)
    zenodo.add(archive, packed.getvalue())
    root = tmp_path / "in" / "data"
    options = ("--machines", "fan", "--base-url", zenodo.url, "--output", root)
    code = asdbench("data", "get", "dcase2023", *options)
    assert code == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert len(said.splitlines()) == 1
    assert set(tree(tmp_path / "in")) == {"data/LICENSE.txt"}
    assert not [p for p in tmp_path.rglob("*") if p.is_symlink() or p.name == "out.wav"]
    assert catalog.names(Workspace.from_environment()) == []


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-30], lambda content: b"<html>", lambda c: c[:60] + b"??" + c[62:]],
    ids=["cut", "no zip", "flipped"],
)
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (tmp_path / "fan.zip").write_bytes(damage(content_of("fan")))
    with pytest.raises(InputError, match=r"fan.zip' is damaged"):
        download.unpack(tmp_path / "fan.zip", tmp_path / "fan", clip_folders=CLIP_FOLDERS)
    assert [path.name for path in tmp_path.iterdir()] == ["fan.zip"]


def test_archives_of_any_shape_give_the_same_tree(tmp_path: Path) -> None:
    members = {
        "eval_data/fan_r2/train/a.wav": b"a",
        "test/b.wav": b"b",
        "fan/attributes_00.csv": b"c",
        "__MACOSX/fan/train/._a.wav": b"d",
        "fan/.DS_Store": b"e",
    }
    (tmp_path / "fan.zip").write_bytes(zipped(members))
    files = download.unpack(tmp_path / "fan.zip", tmp_path / "fan", clip_folders=CLIP_FOLDERS)
    assert files == ["train/a.wav", "test/b.wav", "attributes_00.csv"]
    assert tree(tmp_path / "fan") == {"train/a.wav": b"a", "test/b.wav": b"b", "attributes_00.csv": b"c"}


# From archives to a registered data set


def _archives_of_a_miniature(year: Challenge, folder: Path) -> tuple[Written, dict[Archive, bytes]]:
    """Return a year's miniature, with machine types of that year, and its archives."""
    miniature = MINIATURES[MINIATURE_OF[year.name]]
    types = {
        subset: tuple(
            replace(machine, name=name)
            for machine, name in zip(machines, ("fan", "ToyCar") if "fan" in names else names, strict=False)
        )
        for subset, machines in miniature.types.items()
        for names in [year.subsets[subset].machine_types]
    }
    written = write_miniature(folder / year.name, replace(miniature, types=types))
    packed: dict[Archive, dict[str, bytes]] = defaultdict(dict)
    for subset in types:
        base = written.data / f"{subset}_data"
        for machine in types[subset]:
            parts = [a for a in year.subsets[subset].archives if a.machine_type == machine.name]
            for path in sorted((base / machine.name).rglob("*.*")):
                test = "test" in path.parent.name
                packed[parts[-1] if test else parts[0]][path.relative_to(base).as_posix()] = path.read_bytes()
    return written, {archive: zipped(members) for archive, members in packed.items()}


@pytest.mark.parametrize("name", CHALLENGES)
def test_every_year_is_fetched_indexed_and_labeled(
    zenodo: Zenodo, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    year = named(name)
    written, archives = _archives_of_a_miniature(year, tmp_path)
    for archive, content in archives.items():
        zenodo.add(archive, content)
    machines = sorted({archive.machine_type for archive in archives})
    command = ("data", "get", name, "--machines", *machines, "--base-url", zenodo.url)
    assert asdbench(*command) == 0
    assert (
        f"{name}: {len(machines)} machine types, {len(written.clips)} clips registered"
        in capsys.readouterr().out
    )
    data = catalog.load(Workspace.from_environment(), name)
    assert (data.layout, data.channels) == (year.layout.name, year.layout.channels)
    assert {(c.path, c.subset, c.section) for c in written.clips} == set(
        data.clips.select("path", "subset", "section").iter_rows()
    )
    assert "cc-by-4.0" in (data.license or "")

    zenodo.asked.clear()
    assert asdbench(*command) == 0
    assert "already complete in" in capsys.readouterr().out
    assert zenodo.asked == []

    assert asdbench("data", "labels", name, "--from", written.ground_truth) == 0
    anomalous = {c.path: (c.anomalous, c.domain) for c in written.clips if c.split == "test"}
    labeled = catalog.load(Workspace.from_environment(), name).clips.join(
        catalog.truth(catalog.load(Workspace.from_environment(), name)), on="clip_id"
    )
    assert {
        path: (bad, domain) for path, bad, domain in labeled.select("path", "anomaly", "domain").iter_rows()
    } == anomalous
    assert data.fingerprint(split="train") == catalog.load(Workspace.from_environment(), name).fingerprint(
        split="train"
    )


# From archives to official scores


def plain_score(name: str, clips: list[MiniatureClip], scores: dict[str, float]) -> float:
    """Return the official score of a year, computed from a list of clips and their scores by path."""
    values = []
    for place in sorted({(clip.machine_type, clip.section) for clip in clips}):
        section = [clip for clip in clips if (clip.machine_type, clip.section) == place]
        score = np.array([scores[clip.path] for clip in section])
        bad = np.array([clip.anomalous for clip in section])
        domain = np.array([clip.domain for clip in section])
        if name == "dcase2020":
            values += [roc_auc_score(bad, score), roc_auc_score(bad, score, max_fpr=0.1)]
            continue
        for of in ("source", "target"):
            own = domain == of
            taken = own if name == "dcase2021" else own | bad
            values.append(roc_auc_score(bad[taken], score[taken]))
            if name == "dcase2021":
                values.append(roc_auc_score(bad[own], score[own], max_fpr=0.1))
        if name != "dcase2021":
            values.append(roc_auc_score(bad, score, max_fpr=0.1))
    raised = np.maximum(values, np.finfo(float).eps)
    return float(raised.mean() if name == "dcase2020" else hmean(raised))


@pytest.mark.parametrize("name", CHALLENGES)
def test_every_year_is_trained_on_and_scored_by_its_rule(
    zenodo: Zenodo,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    empty_database: Path,
    name: str,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home.mkdir()
    shutil.copy(empty_database, home)
    written, archives = _archives_of_a_miniature(named(name), tmp_path)
    for archive, content in archives.items():
        zenodo.add(archive, content)
    machines = sorted({archive.machine_type for archive in archives})
    assert asdbench("data", "get", name, "--machines", *machines, "--base-url", zenodo.url) == 0

    settings = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
    quick = ("--set", *(f"{key}={value}" for key, value in settings.items()))
    systems = ("baseline-mse", "baseline-maha")
    run = ("run", *systems, "--data", name, "--local", *quick)

    def said(*command: object) -> str:
        capsys.readouterr()
        assert asdbench(*command) == 0
        return capsys.readouterr().out

    def shown(subset: str) -> dict[str, float]:
        rows = json.loads(said("leaderboard", "--data", name, "--subset", subset, "--format", "json"))
        assert all(row["complete"] for row in rows)
        return {row["system"]: row["official_score"] for row in rows}

    def resolved(system: str, machine: str) -> ResolvedJob:
        return ResolvedJob.from_workspace(
            Job(system, settings, name, machine, 0), Workspace.from_environment()
        )

    def expected(subset: str, system: str) -> float:
        tables = [
            anomaly_scores(resolved(system, machine), JobStore.from_workspace(Workspace.from_environment()))
            for machine in machines
        ]
        scored = pl.concat(tables).filter(pl.col("use") == "test").join(data.clips, on="clip_id")
        scores = dict(scored.select("path", "score").iter_rows())
        tested = [clip for clip in written.clips if (clip.subset, clip.split) == (subset, "test")]
        assert {clip.path for clip in tested} <= scores.keys()
        return plain_score(name, tested, scores)

    out = said(*run)
    assert f"Leaderboard of {name} (dev subset)" in out
    assert f"of data set {name!r} (eval subset) has a known label" in " ".join(out.split())
    data = catalog.load(Workspace.from_environment(), name)
    found = shown("dev")
    assert found == pytest.approx({system: expected("dev", system) for system in systems}, abs=1e-12)
    assert shown("eval") == {}

    assert asdbench("data", "labels", name, "--from", written.ground_truth) == 0
    assert shown("dev") == found  # labels of evaluation clips concern the others alone
    out = " ".join(said(*run).split())
    assert f"{len(machines)} trainings ({len(machines)} already stored)" in out
    assert "steps to train" not in out
    assert "done" not in out  # nor is anything scored again
    assert f"Leaderboard of {name} (dev subset)" in out
    assert f"Leaderboard of {name} (eval subset)" in out
    assert shown("dev") == found
    evaluated = shown("eval")
    assert evaluated == pytest.approx({system: expected("eval", system) for system in systems}, abs=1e-12)

    assert "this is the dev subset; --subset eval shows" in said("leaderboard", "--data", name)
    of_eval = ("--data", name, "--subset", "eval", "--format", "json")
    *_, row = json.loads(said("compare", *systems, *of_eval, "--resamples", 20, *quick))
    assert (row["score_a"], row["score_b"]) == pytest.approx(tuple(evaluated[s] for s in systems), abs=1e-12)
    for row in json.loads(said("leaderboard", *of_eval, "--intervals")):
        jobs = {m: resolved(row["system"], m) for m in machines if "eval" in data.subsets(m)}
        intervals = score_intervals(
            [jobs],
            JobStore.from_workspace(Workspace.from_environment()),
            rule=named(name).rule,
            subset="eval",
        )
        assert (row["official_score_low"], row["official_score_high"]) == intervals.these
    said("submission", "baseline-mse", "--data", name, "--team", "T", "--output", tmp_path / "teams", *quick)
    official = ("--ground-truth", written.ground_truth, "--format", "json")
    figures = json.loads(said("evaluate", tmp_path / "teams/T/T_task2_1", "--data", name, *official))
    assert figures["official_score"] == pytest.approx(evaluated["baseline-mse"], abs=1e-12)


def test_labels_stay_when_more_is_fetched(zenodo: Zenodo, home: Path, tmp_path: Path) -> None:
    year = named("dcase2023")
    written, archives = _archives_of_a_miniature(year, tmp_path)
    for archive, content in archives.items():
        zenodo.add(archive, content)
    get = ("data", "get", year.name, "--base-url", zenodo.url)
    evaluation = [m.name for m in MINIATURES["first shot"].types["eval"]]
    names = sorted({a.machine_type for a in archives if a.name.startswith("eval")})
    assert len(names) == len(evaluation)
    assert asdbench(*get, "--subset", "eval", "--machines", *names) == 0
    assert asdbench("data", "labels", year.name, "--from", written.ground_truth) == 0
    before = catalog.truth(catalog.load(Workspace.from_environment(), year.name))
    assert before.height
    assert asdbench(*get, "--subset", "dev", "--machines", "fan", "ToyCar") == 0
    data = catalog.load(Workspace.from_environment(), year.name)
    assert set(data.machine_types) == {"fan", "ToyCar", *names}
    assert set(before.iter_rows()) < set(
        catalog.truth(catalog.load(Workspace.from_environment(), year.name)).iter_rows()
    )
    domains = data.clips.filter((pl.col("subset") == "eval") & (pl.col("split") == "test"))["domain"]
    assert set(domains) == {"source", "target"}


def test_archives_that_the_user_has_are_used_and_kept(
    zenodo: Zenodo, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, archives = _archives_of_a_miniature(named("dcase2021"), tmp_path)
    given = tmp_path / "given"
    given.mkdir()
    for archive, content in archives.items():
        (given / archive.name).write_bytes(content)
    nowhere = ("--base-url", "http://127.0.0.1:9")
    get = ("data", "get", "dcase2021", "--from", given, *nowhere)
    assert asdbench(*get) == 2
    lacks = capsys.readouterr().err
    assert "lacks dev_data_gearbox.zip, dev_data_pump.zip" in lacks
    assert "more; add them" in lacks
    assert catalog.names(Workspace.from_environment()) == []
    before = tree(given)
    assert asdbench(*get, "--machines", "fan", "ToyCar") == 0
    assert "not verified, because no checksum is known: dev_data_fan.zip" in " ".join(
        capsys.readouterr().out.split()
    )
    assert tree(given) == before
    assert catalog.load(Workspace.from_environment(), "dcase2021").machine_types == ("ToyCar", "fan")

    (given / "dev_fan.zip").write_bytes(content_of("fan"))
    assert asdbench("data", "get", "dcase2023", "--machines", "fan", "--from", given, *nowhere) == 2
    assert (
        "dev_fan.zip' is damaged or another version, because its MD5 is not 9348591e"
        in capsys.readouterr().err
    )


def test_bad_files_of_an_archive_are_left_out_on_request(
    zenodo: Zenodo, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, archives = _archives_of_a_miniature(named("dcase2023"), tmp_path)
    (fan,) = [archive for archive in archives if archive.name == "dev_fan.zip"]
    packed = io.BytesIO(archives[fan])
    with zipfile.ZipFile(packed, "a") as file:
        file.writestr("fan/train/notes.txt", b"?")
    zenodo.add(fan, packed.getvalue())
    get = ("data", "get", "dcase2023", "--machines", "fan", "--base-url", zenodo.url)
    assert asdbench(*get) == 2
    assert "dev_data/fan/train/notes.txt: not a .wav or .flac file" in capsys.readouterr().err
    assert catalog.names(Workspace.from_environment()) == []
    assert asdbench(*get, "--skip-bad") == 0
    capsys.readouterr()
    assert asdbench(*get) == 0
    assert "already complete in" in capsys.readouterr().out


def test_the_channel_policy_stays_when_more_is_fetched(zenodo: Zenodo, home: Path, tmp_path: Path) -> None:
    _, archives = _archives_of_a_miniature(named("dcase2026"), tmp_path)
    for archive, content in archives.items():
        zenodo.add(archive, content)
    get = ("data", "get", "dcase2026", "--subset", "dev", "--base-url", zenodo.url, "--machines")
    assert asdbench(*get, "fan") == 0
    root = catalog.load(Workspace.from_environment(), "dcase2026").root
    assert root == home / "recordings" / "dcase2026"
    add = ("data", "add", "dcase2026", root, "--layout", "two-microphones", "--channels", "far")
    assert asdbench(*add) == 0
    assert asdbench(*get, "fan", "ToyCar") == 0
    data = catalog.load(Workspace.from_environment(), "dcase2026")
    assert (data.channels, data.machine_types) == ("far", ("ToyCar", "fan"))


def test_a_data_set_registered_from_elsewhere_is_not_replaced(
    zenodo: Zenodo, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, _ = _archives_of_a_miniature(named("dcase2023"), tmp_path)
    catalog.add(Workspace.from_environment(), "dcase2023", written.data)
    assert asdbench("data", "get", "dcase2023", "--output", tmp_path / "other", "--base-url", zenodo.url) == 2
    assert "is registered from" in capsys.readouterr().err
    assert catalog.load(Workspace.from_environment(), "dcase2023").root == written.data


def test_what_can_be_fetched_is_listed_with_sizes_and_licenses(
    zenodo: Zenodo, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = named("dcase2021").subsets["dev"]
    for archive in dev.archives:
        zenodo.add(archive, bytes(1_000_000))
    assert asdbench("data", "list", "--available", "--base-url", zenodo.url) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line for line in lines if line.strip().startswith("dcase2021")]
    assert "7.0 MB" in shown[0]
    assert "cc-by-4.0" in shown[0]
    assert "fan gearbox pump slider ToyCar ToyTrain valve" in shown[0]
    assert "00 01 02" in shown[0]
    assert shown[1].split()[1:3] == ["eval", "?"]
    assert sum(line.strip().startswith("dcase20") for line in lines) == 14
    assert lines[-1] == "? = the record could not be read; assume non-commercial use"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("get", "dcase2032"), "no challenge 'dcase2032'; did you mean 'dcase2026'?"),
        (("get", "dcase2023", "--machines", "fann"), "did you mean 'fan'?"),
        (
            ("get", "dcase2023", "--subset", "eval", "--machines", "fan"),
            "no machine type of dcase2023 eval 'fan'",
        ),
        (("get", "dcase2023", "--from", "nowhere"), "'nowhere' lacks dev_bearing.zip"),
        (("get", "dcase2023", "--base-url", "ftp:/x"), "is not a web address"),
        (("labels", "dcase2023", "--from", "nowhere"), "no data set 'dcase2023'"),
    ],
)
def test_bad_input_is_one_sentence(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert asdbench("data", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
