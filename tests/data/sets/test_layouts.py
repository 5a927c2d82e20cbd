from pathlib import Path

import pytest

from asdbench.data.sets.layouts import (
    DOMAIN_FOLDERS,
    LAYOUTS,
    MACHINE_IDS,
    SECTIONS,
    SECTIONS_WITH_SUPPLEMENT,
    TWO_MICROPHONES,
    Layout,
    detect_layout,
    named_layout,
)
from asdbench.errors import InputError

IDS = ("train/normal_id_00_00000000.wav", "test/id_01_00000000.wav")
NAMED = ("train/section_00_source_train_normal_0000_a_1.wav", "test/section_00_0000.wav")
SUPPLEMENT = ("supplemental/section_00_machine_0001_.wav",)


def machine(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_layouts_have_names() -> None:
    assert [named_layout(name) for name in LAYOUTS] == list(LAYOUTS.values())
    assert named_layout("machine-ids") is MACHINE_IDS
    with pytest.raises(InputError, match="no layout 'machine-id'; did you mean 'machine-ids'"):
        named_layout("machine-id")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (IDS, MACHINE_IDS),
        (IDS[:1], MACHINE_IDS),
        (("train/section_00_source_train_normal_0000_x.wav", "source_test/a.wav"), DOMAIN_FOLDERS),
        (("target_test/section_03_target_test_0000.wav",), DOMAIN_FOLDERS),
        (NAMED, SECTIONS),
        (("train/odd.wav",), SECTIONS),
        ((*NAMED, *SUPPLEMENT), SECTIONS_WITH_SUPPLEMENT),
        ((*NAMED, "supplemental/notes.txt"), SECTIONS),
    ],
)
def test_a_folder_shows_its_layout(tmp_path: Path, names: tuple[str, ...], expected: Layout) -> None:
    plain = machine(tmp_path / "fan", ("train/section_00_source_train_normal_0000_a_1.wav",))
    assert detect_layout([plain, machine(tmp_path / "valve", names)]) is expected


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            (*IDS, *NAMED),
            "'fan/train/normal_id_00_00000000.wav' .machine-ids., 'fan/test/section_00_0000.wav'",
        ),
        (
            (*NAMED, "source_test/a.wav"),
            "'fan/source_test/' .domain-folders., 'fan/test/section_00_0000.wav'",
        ),
        ((*IDS, *SUPPLEMENT), "supplemental/section_00_machine_0001_.wav"),
    ],
)
def test_a_mixture_is_refused(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=rf"mixes layouts: .*{told}.*; choose one with --layout"):
        detect_layout([machine(tmp_path / "fan", names)])


def test_two_microphones_are_never_guessed(tmp_path: Path) -> None:
    assert TWO_MICROPHONES.channels == "near"
    assert detect_layout([machine(tmp_path / "fan", NAMED)]).channels == "mean"
