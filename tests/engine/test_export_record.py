import json
import shutil
from pathlib import Path

import pytest

from asdbench.engine.export_record import RECORD, ClipCounts, read_record, read_tensors_file, to_json
from asdbench.errors import InputError
from tests.exported import Exported


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    return shutil.copytree(exported.folder / "data" / "detector", tmp_path / "detector")


def test_a_record_comes_back(folder: Path) -> None:
    record = read_record(folder)
    assert (record.system, record.seed, list(record.machines)) == ("baseline-mse", 0, ["fan", "valve"])
    assert to_json(record) == (folder / RECORD).read_bytes()
    fan = record.machines["fan"]
    assert (fan.clips.training, fan.clips.hold_out, fan.clips.target_domain, fan.clips.test) == (15, 9, 3, 8)
    assert 0.6 <= fan.clips.shortest_s <= fan.clips.median_s <= fan.clips.longest_s <= 1.5
    assert set(fan.thresholds) == {"empirical", "gamma", "tail"}
    assert read_tensors_file(folder, fan)


@pytest.mark.parametrize(
    ("shortest_s", "longest_s", "length"),
    [(6.0, 10.0, "6.0 to 10.0 s"), (10.0, 10.0, "10.0 s"), (9.99, 10.01, "10.0 s")],
)
def test_clips_of_one_length_have_one(shortest_s: float, longest_s: float, length: str) -> None:
    assert ClipCounts(8, 4, 1, 8, shortest_s, 10.0, longest_s).length == length


def test_what_is_no_export_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not an exported detector .*asdbench export SYSTEM"):
        read_record(tmp_path)


@pytest.mark.parametrize("change", ["threshold", "cut", "version", "field"])
def test_a_changed_record_is_named(folder: Path, change: str) -> None:
    path = folder / RECORD
    content = json.loads(path.read_text())
    if change == "threshold":
        content["machines"]["fan"]["thresholds"]["empirical"]["threshold"] += 1
    elif change == "version":
        content["schema_version"] = 99
    elif change == "field":
        content["code_to_run"] = "import os"
    text = json.dumps(content)
    path.write_text(text[: len(text) // 2] if change == "cut" else text)
    expected = {
        "threshold": "was changed after the export",
        "version": "has schema version 99; expected version 2",
    }
    with pytest.raises(InputError, match=expected.get(change, "cannot be read")) as caught:
        read_record(folder)
    assert str(path) in str(caught.value)
    assert "asdbench export" in str(caught.value)


def test_changed_tensors_are_named(folder: Path) -> None:
    fan = read_record(folder).machines["fan"]
    path = folder / fan.file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is damaged or was changed after the export"):
        read_tensors_file(folder, fan)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_tensors_file(folder, fan)
