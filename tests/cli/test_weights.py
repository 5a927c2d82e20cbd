"""The commands of asdbench weights."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from asdbench.api import weights as api_weights
from asdbench.io import download as io_download
from asdbench.io.workspace import Workspace
from asdbench.weights import records, store
from asdbench.weights.records import named
from asdbench.weights.store import weights_path
from tests.commands import asdbench
from tests.weights.checkpoints import ced_bytes, record_of, written
from tests.weights.lying_server import LyingServer

CONTENT = ced_bytes()


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingServer]:
    """A server of weights that are registered as ced-tiny, at its addresses a and b."""
    monkeypatch.setattr(io_download, "_BACK_OFF_S", 0.01)
    monkeypatch.setattr(io_download, "_LONGEST_BACK_OFF_S", 0.02)
    lying = LyingServer(CONTENT)
    known = {"ced-tiny": record_of(CONTENT, f"{lying.url}/a", f"{lying.url}/b")}
    monkeypatch.setattr(records, "RECORDS", known)
    monkeypatch.setattr(store, "RECORDS", known)
    monkeypatch.setattr(api_weights, "RECORDS", known)
    yield lying
    lying.close()


def test_the_registry_is_listed_with_licenses_and_training_data(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("weights", "list") == 0
    said = capsys.readouterr().out
    for word in ("beats-iter3", "361.5 MB", "unknown", "Apache-2.0", "AudioSet, without labels"):
        assert word in said
    assert asdbench("weights", "list", "--json") == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows["echo-small"]["mirrors"]) == 2
    assert rows["echo-small"]["sha256"] is None
    assert rows["beats-iter3"]["sha256"] == named("beats-iter3").sha256
    assert not any(row["installed"] for row in rows.values())


def test_weights_are_downloaded_listed_and_verified(
    server: LyingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults["/a"] = ["html!"]
    assert asdbench("weights", "get", "ced-tiny", "--accept-license") == 0
    said = capsys.readouterr().out
    assert "license of ced-tiny: Apache-2.0 (https://www.apache.org/" in said
    assert f"note: {server.url}/a responds with a web page in place of the file" in said
    assert f"ced-tiny: 12.9 kB from {server.url}/b" in said
    assert "nobody has published" not in said
    assert asdbench("weights", "verify") == 0
    assert "intact" in capsys.readouterr().out
    weights_path(Workspace.from_environment(), named("ced-tiny")).write_bytes(b"damaged")
    for ids in ([], ["ced-tiny"]):  # its size is enough to tell
        assert asdbench("weights", "verify", *ids) == 1
        shown = capsys.readouterr()
        assert "damaged" in shown.out
        assert "'asdbench weights get ced-tiny'" in shown.err
    assert asdbench("weights", "list") == 0
    assert "damaged" in capsys.readouterr().out
    weights_path(Workspace.from_environment(), named("ced-tiny")).write_bytes(CONTENT[:-1] + b"x")
    assert asdbench("weights", "verify", "--json") == 1
    shown = capsys.readouterr()
    assert [row["state"] for row in json.loads(shown.out)] == ["damaged"]
    assert "'asdbench weights get ced-tiny'" in shown.err
    assert asdbench("weights", "get", "ced-tiny") == 0  # the license was accepted
    assert asdbench("weights", "verify") == 0


def test_a_network_that_fails_is_told_in_short(
    server: LyingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.close()
    assert asdbench("weights", "get", "ced-tiny", "--accept-license") == 1
    said = capsys.readouterr().err
    assert f"{server.url}/a was given up because the connection failed (Connection refused)" in said
    assert "object at 0x" not in said


def test_trust_on_first_use_is_said(
    server: LyingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = {"ced-tiny": replace(named("ced-tiny"), sha256=None, size_bytes=None)}
    monkeypatch.setattr(records, "RECORDS", unknown)
    monkeypatch.setattr(store, "RECORDS", unknown)
    assert asdbench("weights", "get", "ced-tiny", "--accept-license") == 0
    assert "nobody has published a SHA-256 of ced-tiny; this first file is trusted" in capsys.readouterr().out
    assert asdbench("weights", "verify") == 0
    assert "the first download" in capsys.readouterr().out


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


def test_the_license_is_asked_for_on_a_terminal(
    server: LyingServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert asdbench("weights", "get", "ced-tiny") == 2
    assert "--accept-license" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert asdbench("weights", "get", "ced-tiny") == 2
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert asdbench("weights", "get", "ced-tiny") == 0


def test_weights_are_added_from_a_file(
    server: LyingServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "their.safetensors", CONTENT)
    assert asdbench("weights", "add", "ced-tiny", "--from", str(file), "--accept-license") == 0
    assert f"ced-tiny: 12.9 kB from {file}" in capsys.readouterr().out
    assert server.asked == []
    assert asdbench("weights", "add", "ced-tiny", "--from", str(tmp_path / "nothing")) == 2
    assert asdbench("weights", "get", "ced-tinny") == 2
    assert "did you mean 'ced-tiny'" in capsys.readouterr().err
    assert asdbench("weights", "get", "ced-tiny", "--timeout", "0") == 2
    assert "--timeout 0 is not a positive" in capsys.readouterr().err
