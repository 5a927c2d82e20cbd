"""Data sets are registered and listed."""

import json
from pathlib import Path

import pytest

import asdbench
from asdbench.data.sets import catalog
from asdbench.data.synthetic import dataset
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny


def test_a_folder_is_registered_in_the_home_that_is_given(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "recordings", machine_types=("fan",))
    data = asdbench.add_data("mine", str(folder), channels="near", home=tmp_path / "home")
    assert (data.name, data.machine_types, data.channels) == ("mine", ("fan",), "near")
    assert catalog.names(Workspace.from_home(tmp_path / "home")) == ["mine"]
    registered = asdbench.data_sets(home=tmp_path / "home")
    assert registered.names == ["mine"]
    assert json.loads(registered.to_json()) == [
        {"name": "mine", "machine_types": ["fan"], "clips": data.clips.height, "folder": str(folder)}
    ]
    assert "mine" in str(registered)


def test_bad_files_are_listed_and_may_be_skipped(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "recordings", machine_types=("fan",))
    (clip, *_) = sorted((folder / "fan" / "train").glob("*.wav"))
    clip.write_bytes(b"")
    with pytest.raises(asdbench.InputError, match="1 problem in") as error:
        asdbench.add_data("mine", folder, home=tmp_path / "home")
    assert [bad.path for bad in error.value.bad] == [f"fan/train/{clip.name}"]  # type: ignore[attr-defined]
    assert asdbench.data_sets(home=tmp_path / "home").names == []
    data = asdbench.add_data("mine", folder, skip_bad=True, home=tmp_path / "home")
    assert [bad.path for bad in data.left_out] == [f"fan/train/{clip.name}"]


def test_a_layout_must_exist(tmp_path: Path) -> None:
    with pytest.raises(asdbench.InputError, match="section"):
        asdbench.add_data("mine", tmp_path, layout="sectionz", home=tmp_path / "home")


def test_the_embedded_data_set_is_written_under_the_home_and_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, object]] = []

    def write(folder: Path, *, progress: object, **parameters: object) -> None:
        written.append(parameters)
        write_tiny(folder, machine_types=("fan",))

    monkeypatch.setattr(dataset, "write_demo", write)
    data = asdbench.add_demo_data("synthetic", clips_per_type=20, seed=3, home=tmp_path)
    assert (data.name, data.machine_types) == ("synthetic", ("fan",))
    assert data.root == tmp_path.resolve() / "recordings" / "demo-20-seed3"
    assert asdbench.add_demo_data(home=tmp_path).root.name == "demo-100-seed0"
    assert written == [{"clips_per_type": 20, "seed": 3}, {"clips_per_type": 100, "seed": 0}]
