import pytest

from asdbench.data.filenames import ClipName, parse_clip_name
from asdbench.errors import InputError


@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        (
            "section_00_source_train_normal_0012_car_A1_spd_28V_mic_1.wav",
            "train",
            ClipName(
                "00", "source", "train", "normal", "0012", (("car", "A1"), ("spd", "28V"), ("mic", "1"))
            ),
        ),
        (
            "section_00_target_test_anomaly_0003_m-n_Y.wav",
            "test",
            ClipName("00", "target", "test", "anomaly", "0003", (("m-n", "Y"),)),
        ),
        (
            "section_00_source_test_normal_0003_vel_1.5_.flac",
            "test",
            ClipName("00", "source", "test", "normal", "0003", (("vel", "1.5"),)),
        ),
        (
            "section_02_source_train_normal_0001_noAttribute.wav",
            "train",
            ClipName("02", "source", "train", "normal", "0001", ()),
        ),
        (
            "section_00_source_train_normal_0001_noAttribute_.wav",
            "train",
            ClipName("00", "source", "train", "normal", "0001", ()),
        ),
        (
            "section_00_source_train_normal_0001_.wav",
            "train",
            ClipName("00", "source", "train", "normal", "0001", ()),
        ),
        (
            "section_00_target_anomaly_0041_weight35_BckgG.wav",
            "test",
            ClipName("00", "target", "test", "anomaly", "0041", (("weight35", "BckgG"),)),
        ),
        ("section_00_0199.wav", "test", ClipName("00", None, "test", None, "0199", ())),
        ("section_00_0199_.WAV", "test", ClipName("00", None, "test", None, "0199", ())),
    ],
)
def test_names_of_every_year_are_understood(name: str, split: str, expected: ClipName) -> None:
    assert parse_clip_name(name, split_folder=split) == expected


@pytest.mark.parametrize(
    ("name", "split", "why"),
    [
        ("section_00_source_train_normal_0001.mp3", "train", r"does not end in \.wav or \.flac"),
        ("normal_id_01_00000000.wav", "train", "is not section_NN_"),
        ("section_00_source_train_odd_0001.wav", "train", "is not section_NN_"),
        ("section_٠٠_0001.wav", "test", "is not section_NN_"),
        ("section_00_source_test_normal_0001.wav", "train", r"says test, but lies in train/"),
        ("section_00_source_train_normal_0001.wav", "test", r"says train, but lies in test/"),
        ("section_00_source_train_anomaly_0001.wav", "train", "training clip labelled anomaly"),
        ("section_00_source_normal_0001.wav", "train", "does not say _train_"),
        ("section_00_0001.wav", "train", "names no domain"),
        ("section_00_source_train_normal_0001_spd.wav", "train", "names and values in turn"),
        ("section_00_source_train_normal_0001_spd__mic_1.wav", "train", "names and values in turn"),
        ("section_00_source_train_normal_0001_spd_1_spd_2.wav", "train", "an attribute twice"),
        ("section_00_source_train_normal_0001_spd_\n.wav", "train", "cannot be printed"),
        ("section_00_source_train_normal_0001_spd_\udcff.wav", "train", "cannot be printed"),
    ],
)
def test_other_names_are_refused_with_the_reason(name: str, split: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_clip_name(name, split_folder=split)
