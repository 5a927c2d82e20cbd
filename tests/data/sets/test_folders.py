"""Listing folders: machine types, hints for wrong folders, and attributes from tables or names."""

from pathlib import Path

import pytest

from asdbench.data.sets.entries import Findings
from asdbench.data.sets.folders import list_folder, machine_type_folders
from asdbench.errors import InputError

NORMAL = "section_00_source_train_normal_0000_spd_1.wav"


def write(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_machine_types_are_folders_with_splits(tmp_path: Path) -> None:
    write(tmp_path, "pump/test/a.wav", "fan/train/a.wav", "papers/a.pdf", ".fan/train/a.wav")
    assert [folder.name for folder in machine_type_folders(tmp_path)] == ["fan", "pump"]


def test_a_folder_too_deep_or_too_high_names_the_right_one(tmp_path: Path) -> None:
    write(tmp_path, "data/fan/train/a.wav")
    with pytest.raises(InputError, match=rf"give its parent folder, '{tmp_path}/data'"):
        machine_type_folders(tmp_path / "data" / "fan")
    with pytest.raises(InputError, match=rf"did you mean '{tmp_path}/data'\?"):
        machine_type_folders(tmp_path)


def test_attributes_come_from_the_table_or_from_the_name(tmp_path: Path) -> None:
    other = "section_00_source_train_normal_0001.wav"
    write(tmp_path, f"fan/train/{NORMAL}", f"fan/train/{other}")
    (tmp_path / "fan/attributes_00.csv").write_text(f"file_name,d1p,d1v\nfan/train/{other},spd,2\n")
    findings = Findings()
    listing, layout = list_folder(tmp_path, findings)
    assert layout.name == "sections"
    assert {Path(entry.path).name: entry.attributes for entry in listing.entries} == {
        NORMAL: (("spd", "1"),),
        other: (("spd", "2"),),
    }
    assert [bad.reason for bad in findings.listed()] == ["it has no row in attributes_00.csv"]


def test_a_table_that_contradicts_a_name_is_a_finding(tmp_path: Path) -> None:
    write(tmp_path, f"fan/train/{NORMAL}")
    (tmp_path / "fan/attributes_00.csv").write_text(f"file_name,d1p,d1v\nfan/train/{NORMAL},spd,2\n")
    findings = Findings()
    list_folder(tmp_path, findings)
    (bad,) = findings.listed()
    assert bad.reason == "its name says spd=1, attributes_00.csv line 2 says spd=2"
