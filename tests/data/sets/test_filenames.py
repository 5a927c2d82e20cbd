import pytest

from asdbench.data.sets.filenames import ClipName, parse_clip_name
from asdbench.data.sets.layouts import DOMAIN_FOLDERS, MACHINE_IDS, SECTIONS, SECTIONS_WITH_SUPPLEMENT, Layout
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
        ("section_00_source_test_normal_0001.wav", "train", r"contains test, but the file is in train/"),
        ("section_00_source_train_normal_0001.wav", "test", r"contains train, but the file is in test/"),
        ("section_00_source_train_anomaly_0001.wav", "train", "training clip labeled anomaly"),
        ("section_00_source_normal_0001.wav", "train", "lacks _train_"),
        ("section_00_0001.wav", "train", "has no label"),
        ("section_00_source_train_normal_0001_spd.wav", "train", "a sequence of attribute names and values"),
        (
            "section_00_source_train_normal_0001_spd__mic_1.wav",
            "train",
            "a sequence of attribute names and values",
        ),
        ("section_00_source_train_normal_0001_spd_1_spd_2.wav", "train", "repeats an attribute"),
        ("section_00_source_train_normal_0001_spd_\n.wav", "train", "unprintable"),
        ("section_00_source_train_normal_0001_spd_\udcff.wav", "train", "unprintable"),
    ],
)
def test_other_names_are_refused_with_the_reason(name: str, split: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_clip_name(name, split_folder=split)


@pytest.mark.parametrize(
    ("layout", "name", "folder", "expected"),
    [
        (
            MACHINE_IDS,
            "normal_id_01_00000012.wav",
            "train",
            ClipName("01", None, "train", "normal", "00000012", ()),
        ),
        (
            MACHINE_IDS,
            "anomaly_id_06_00000003.wav",
            "test",
            ClipName("06", None, "test", "anomaly", "00000003", ()),
        ),
        (MACHINE_IDS, "id_05_00000514.wav", "test", ClipName("05", None, "test", None, "00000514", ())),
        (
            DOMAIN_FOLDERS,
            "section_00_source_train_normal_0000_strength_1_ambient.wav",
            "train",
            ClipName("00", "source", "train", "normal", "0000", (("condition", "strength_1_ambient"),)),
        ),
        (
            DOMAIN_FOLDERS,
            "section_03_source_train_normal_0004_serial_no_030_water.wav",
            "train",
            ClipName("03", "source", "train", "normal", "0004", (("condition", "serial_no_030_water"),)),
        ),
        (
            DOMAIN_FOLDERS,
            "section_00_target_test_anomaly_0090.wav",
            "target_test",
            ClipName("00", "target", "test", "anomaly", "0090", ()),
        ),
        (
            DOMAIN_FOLDERS,
            "section_05_target_test_0162.wav",
            "target_test",
            ClipName("05", "target", "test", None, "0162", ()),
        ),
        (
            DOMAIN_FOLDERS,
            "section_05_0162.wav",
            "source_test",
            ClipName("05", "source", "test", None, "0162", ()),
        ),
        (SECTIONS, "section_03_test_0000.wav", "test", ClipName("03", None, "test", None, "0000", ())),
        (SECTIONS, "section_03_0011.wav", "test", ClipName("03", None, "test", None, "0011", ())),
        (
            SECTIONS_WITH_SUPPLEMENT,
            "section_00_machine_0001_.wav",
            "supplemental",
            ClipName("00", None, "supplemental", None, "0001", (("sound", "machine"),)),
        ),
        (
            SECTIONS_WITH_SUPPLEMENT,
            "section_00_noise_0100_spd_2.wav",
            "supplemental",
            ClipName("00", None, "supplemental", None, "0100", (("sound", "noise"), ("spd", "2"))),
        ),
    ],
)
def test_every_layout_has_its_grammar(layout: Layout, name: str, folder: str, expected: ClipName) -> None:
    assert parse_clip_name(name, split_folder=folder, layout=layout) == expected


@pytest.mark.parametrize(
    ("layout", "name", "folder", "why"),
    [
        (MACHINE_IDS, "section_00_0001.wav", "test", "is not <normal|anomaly>_id_NN_NNNNNNNN"),
        (MACHINE_IDS, "id_01_00000000.wav", "train", "has no label"),
        (MACHINE_IDS, "anomaly_id_01_00000000.wav", "train", "training clip labeled anomaly"),
        (
            DOMAIN_FOLDERS,
            "section_00_target_test_normal_0000.wav",
            "source_test",
            "contains target, but the file is in",
        ),
        (
            DOMAIN_FOLDERS,
            "section_00_target_test_0000.wav",
            "source_test",
            "contains target, but the file is in source_",
        ),
        (
            DOMAIN_FOLDERS,
            "section_00_source_test_0000.wav",
            "train",
            "contains test, but the file is in train/",
        ),
        (
            DOMAIN_FOLDERS,
            "section_00_source_test_0000.wav",
            "test",
            "no folder of clips in the layout .*'test'",
        ),
        (SECTIONS_WITH_SUPPLEMENT, "machine_0001.wav", "supplemental", "is not section_NN_<machine|noise>"),
        (
            SECTIONS,
            "section_00_machine_0001_.wav",
            "supplemental",
            "no folder of clips in the layout 'sections'",
        ),
    ],
)
def test_every_layout_refuses_what_is_not_its_own(layout: Layout, name: str, folder: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_clip_name(name, split_folder=folder, layout=layout)
