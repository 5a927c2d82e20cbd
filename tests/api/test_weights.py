"""Weights of pretrained encoders from Python."""

from pathlib import Path

import pytest

import asdbench
from asdbench.api import weights as api_weights
from asdbench.errors import InputError
from asdbench.weights import records, store
from asdbench.weights.records import License
from tests.weights.checkpoints import ced_bytes, record_of, written


def test_weights_are_added_listed_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"ced-tiny": record_of(ced_bytes())}
    monkeypatch.setattr(records, "RECORDS", known)
    monkeypatch.setattr(store, "RECORDS", known)
    monkeypatch.setattr(api_weights, "RECORDS", known)
    home, file = tmp_path / "home", written(tmp_path / "their.safetensors", ced_bytes())
    asked: list[License] = []

    def accept(license: License) -> bool:
        asked.append(license)
        return True

    receipt = asdbench.add_weights("ced-tiny", file, accept_license=accept, home=home)
    assert asked == [known["ced-tiny"].license]
    assert asdbench.get_weights("ced-tiny", home=home) == receipt  # it is there
    assert asdbench.pretrained_weights(home=home).installed == ["ced-tiny"]
    assert asdbench.verify_weights(home=home).frame["state"].to_list() == ["intact"]
    with pytest.raises(InputError, match="give a list"):
        asdbench.verify_weights("ced-tiny", home=home)


def test_one_damaged_receipt_leaves_the_others_listed_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {one: record_of(ced_bytes(), weights_id=one) for one in ("ced-tiny", "ced-mini")}
    monkeypatch.setattr(records, "RECORDS", known)
    monkeypatch.setattr(store, "RECORDS", known)
    monkeypatch.setattr(api_weights, "RECORDS", known)
    home, file = tmp_path / "home", written(tmp_path / "their.safetensors", ced_bytes())
    for one in known:
        asdbench.add_weights(one, file, accept_license=True, home=home)
    (home / "weights" / "ced-tiny" / "receipt.json").write_bytes(b"{}")
    listed = asdbench.pretrained_weights(home=home)
    assert listed.installed == ["ced-mini"]
    assert [row["damaged"] for row in listed.rows] == [True, False]
    assert [row.cells[1] for row in listed.tables()[0].rows] == ["damaged", "yes"]
    for ids in ([], ["ced-tiny", "ced-mini"]):
        states = {row["id"]: row["state"] for row in asdbench.verify_weights(ids, home=home).rows}
        assert states == {"ced-tiny": "damaged", "ced-mini": "intact"}
