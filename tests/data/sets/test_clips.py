import csv
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from asdbench.data.audio import facts_or_reason
from asdbench.data.sets import clips as clips_module
from asdbench.data.sets.clips import CLIP_SCHEMA, index_folder
from asdbench.data.sets.layouts import DOMAIN_FOLDERS
from asdbench.data.sets.truth import TRUTH_SCHEMA, load_truth, save_private, save_truth
from asdbench.errors import InputError

NAMES = [
    *(f"train/section_00_source_train_normal_{i:04d}_spd_{i % 3}_m-n_A.wav" for i in range(4)),
    "train/section_00_target_train_normal_0000_spd_7_m-n_A.wav",
    *(f"test/section_00_source_test_{label}_0000_spd_1_m-n_A.wav" for label in ("normal", "anomaly")),
    *(f"test/section_00_target_test_{label}_0000_spd_9_m-n_A.wav" for label in ("normal", "anomaly")),
]


def write_clip(path: Path, seed: int, samples: int = 320) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).integers(-999, 999, samples, dtype=np.int16)
    soundfile.write(path, wave, 16000)


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def attribute_row(path: str) -> list[str]:
    return [path, *path.removesuffix(".wav").split("_")[6:]]


def write_type(
    folder: Path, machine_type: str = "fan", *, seed: int = 0, names: Sequence[str] = NAMES
) -> None:
    """Write a machine type of tiny clips with an attribute CSV that lists all of them."""
    paths = [f"{machine_type}/{name}" for name in names]
    for offset, path in enumerate(paths):
        write_clip(folder / path, 1000 * seed + offset)
    rows = [["file_name", "d1p", "d1v", "d2p", "d2v"], *(attribute_row(path) for path in paths)]
    write_table(folder / machine_type / "attributes_00.csv", rows)


def test_a_clean_folder_gives_the_clip_table_and_the_truth(tmp_path: Path) -> None:
    write_type(tmp_path, "fan", seed=1)
    write_type(tmp_path, "valve", seed=2)
    seen: list[tuple[int, int]] = []
    index = index_folder(tmp_path, progress=lambda done, of: seen.append((done, of)))
    assert (index.bad, index.notes) == ([], [])
    assert index.clips.schema == CLIP_SCHEMA
    assert index.truth.schema == TRUTH_SCHEMA
    assert index.clips.height == 18
    assert not any("label" in column or "anomal" in column for column in index.clips.columns)
    assert seen == [(done, 18) for done in range(19)]

    row = index.clips.row(by_predicate=pl.col("path") == f"fan/{NAMES[4]}", named=True)
    assert row["machine_type"] == "fan"
    assert (row["section"], row["split"], row["domain"]) == ("00", "train", "target")
    assert row["attributes"] == [{"name": "spd", "value": "7"}, {"name": "m-n", "value": "A"}]
    assert (row["samples"], row["sample_rate_hz"], row["channels"], row["duration_s"]) == (
        320,
        16000,
        1,
        0.02,
    )
    assert row["recording"] is None
    assert row["size_bytes"] == (tmp_path / row["path"]).stat().st_size
    assert row["mtime_ns"] == (tmp_path / row["path"]).stat().st_mtime_ns

    ids = index.clips["clip_id"]
    assert ids.n_unique() == 18
    assert ids.min() >= 0  # type: ignore[operator]
    told = index.clips.join(index.truth, on="clip_id")
    assert told.height == 8
    for path, anomaly in told.select("path", "anomaly").iter_rows():
        assert anomaly == ("_anomaly_" in path)


def test_ids_and_order_come_from_content_not_from_names(tmp_path: Path) -> None:
    write_type(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    folder = tmp_path / "b" / "fan" / "test"
    normal, anomaly = (
        f"section_00_source_test_{label}_0000_spd_1_m-n_A.wav" for label in ("normal", "anomaly")
    )
    (folder / normal).rename(folder / "aside")
    (folder / anomaly).rename(folder / normal)
    (folder / "aside").rename(folder / anomaly)
    a, b = index_folder(tmp_path / "a"), index_folder(tmp_path / "b")
    shown = pl.exclude("path", "mtime_ns")
    assert a.clips.select(shown).equals(b.clips.select(shown))
    assert not a.truth.equals(b.truth)


def test_sections_evaluation_clips_and_attributes_from_names(tmp_path: Path) -> None:
    names = [
        "train/section_00_source_train_normal_0000_spd_1.wav",
        "train/section_01_source_train_normal_0000_spd_2.wav",
        "train/section_01_source_train_normal_0001.wav",
        "train/section_01_source_train_normal_0002_weight00_BckgA.wav",
        "test/section_00_0000.wav",
        "test/section_01_source_test_normal_0001_spd_3.wav",
    ]
    for seed, name in enumerate(names):
        write_clip(tmp_path / "fan" / name, seed)
    rows = [f"fan/{name}" for name in names]
    header = ["file_name", "d1p", "d1v", "d2p", "d2v"]
    write_table(
        tmp_path / "fan" / "attributes_01.csv",
        [
            header,
            [rows[1], "spd", "2", "", ""],
            [rows[2], "spd", "4", "", ""],
            [rows[3], "weight", "00", "Bckg", "A"],
        ],
    )
    index = index_folder(tmp_path)
    assert index.bad == []
    found = {row["path"]: row for row in index.clips.iter_rows(named=True)}
    told = [[tuple(pair.values()) for pair in found[path]["attributes"]] for path in rows]
    assert told == [
        [("spd", "1")],
        [("spd", "2")],
        [("spd", "4")],
        [("weight", "00"), ("Bckg", "A")],
        [],
        [("spd", "3")],
    ]
    assert found[rows[4]]["domain"] is None
    assert index.truth.height == 1


def test_all_defects_are_listed_at_once(tmp_path: Path) -> None:
    write_type(tmp_path, "fan", seed=1)
    write_type(tmp_path, "valve", seed=2, names=[name for name in NAMES if name.startswith("test")])
    train, test = tmp_path / "fan" / "train", tmp_path / "fan" / "test"
    extra = [f"section_00_source_train_normal_{i:04d}_spd_1_m-n_A.wav" for i in range(100, 112)]
    (train / extra[0]).touch()
    write_clip(train / extra[1], 1, samples=0)
    write_clip(train / extra[2], 2)
    os.truncate(train / extra[2], 300)
    soundfile.write(train / extra[3], np.full(100, np.nan), 16000, subtype="FLOAT")
    (train / extra[4]).write_text("words")
    (train / extra[5]).mkdir()
    (train / extra[6]).symlink_to("nowhere.wav")
    (train / "notes.txt").write_text("words")
    soundfile.write(train / "section_00_source_train_normal_0120_spd_1_m-n_A.mp3", np.zeros(999), 16000)
    (train / "deeper").mkdir()
    write_clip(train / "fan_0001.wav", 3)
    write_clip(train / "section_00_source_train_anomaly_0000_spd_1_m-n_A.wav", 4)
    write_clip(train / "section_00_source_test_normal_0100_spd_1_m-n_A.wav", 5)
    write_clip(train / extra[7], 6)  # no row
    write_clip(train / extra[8], 7)  # another value in its row
    write_clip(train / extra[9], 8)  # two rows
    shutil.copy(tmp_path / "fan" / NAMES[0], test / "section_00_source_test_normal_0100_spd_0_m-n_A.wav")
    listed = [NAMES[i] for i in range(9)] + [f"train/{name}" for name in extra[:7]]
    listed += ["test/section_00_source_test_normal_0100_spd_0_m-n_A.wav", f"train/{extra[9]}"]
    rows = [attribute_row(f"fan/{name}") for name in listed]
    rows.append([f"fan/train/{extra[8]}", "spd", "2", "m-n", "A"])
    rows.append(attribute_row(f"fan/train/{extra[9]}"))
    rows.append(attribute_row("fan/train/section_00_source_train_normal_0999_spd_1_m-n_A.wav"))
    rows.append(["fan/train/x.wav", "spd"])
    write_table(tmp_path / "fan" / "attributes_00.csv", [["file_name", "d1p", "d1v", "d2p", "d2v"], *rows])
    write_table(tmp_path / "fan" / "attributes_01.csv", [["file", "spd"], ["fan/train/x.wav", "1"]])
    (tmp_path / "fan" / "attributes_02.csv").write_bytes(b"file_name,d1p,d1v\n\0,a,b\n")

    index = index_folder(tmp_path)
    found = {bad.path: bad.reason for bad in index.bad}
    expected = {
        f"fan/train/{extra[0]}": "empty file (0 bytes)",
        f"fan/train/{extra[1]}": "no samples (zero length)",
        f"fan/train/{extra[2]}": "truncated",
        f"fan/train/{extra[3]}": "NaN or infinite samples",
        f"fan/train/{extra[4]}": "not audio",
        f"fan/train/{extra[5]}": "a folder or a device",
        f"fan/train/{extra[6]}": "a broken link",
        "fan/train/notes.txt": "not a .wav or .flac file",
        "fan/train/section_00_source_train_normal_0120_spd_1_m-n_A.mp3": "not a .wav or .flac file",
        "fan/train/deeper": "a folder: only clips belong in train/",
        "fan/train/fan_0001.wav": "is not section_NN_",
        "fan/train/section_00_source_train_anomaly_0000_spd_1_m-n_A.wav": "labeled anomaly",
        "fan/train/section_00_source_test_normal_0100_spd_1_m-n_A.wav": "contains test, but the file",
        f"fan/train/{extra[7]}": "it has no row in attributes_00.csv",
        f"fan/train/{extra[8]}": "its name says spd=1 m-n=A, attributes_00.csv line 20 says spd=2 m-n=A",
        f"fan/train/{extra[9]}": "attributes_00.csv lists it 2 times (lines 19, 21)",
        "fan/train/section_00_source_train_normal_0999_spd_1_m-n_A.wav": "line 22 lists it, but it",
        "fan/attributes_00.csv": "line 23 has 2 fields, the header 5",
        "fan/attributes_01.csv": "its header is 'file,spd'",
        "fan/attributes_02.csv": "cannot be read as CSV text",
        "fan/test/section_00_source_test_normal_0100_spd_0_m-n_A.wav": f"training clip fan/{NAMES[0]}",
        "valve": "no usable training clips",
    }
    assert found.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in found[path]
    assert [bad.path for bad in index.bad] == sorted(expected)
    assert sorted(index.clips["path"]) == sorted(f"fan/{name}" for name in NAMES)
    assert index.truth.height == 4


def test_several_reasons_are_one_entry(tmp_path: Path) -> None:
    write_type(tmp_path)
    (tmp_path / "fan" / "train" / "odd.wav").touch()
    rows = [["file_name", "d1p", "d1v"], *([f"fan/{name}", "only"] for name in NAMES)]
    write_table(tmp_path / "fan" / "attributes_00.csv", rows)
    found = {bad.path: bad.reason for bad in index_folder(tmp_path).bad}
    assert "is not section_NN_" in found["fan/train/odd.wav"]
    assert found["fan/train/odd.wav"].endswith("; empty file (0 bytes)")
    assert found["fan/attributes_00.csv"].endswith("line 4 has 2 fields, the header 3; and 6 more")


def test_a_type_whose_training_clips_are_all_bad_is_left_out(tmp_path: Path) -> None:
    write_type(tmp_path, "fan", seed=1)
    write_type(tmp_path, "valve", seed=2)
    for path in (tmp_path / "valve" / "train").iterdir():
        os.truncate(path, 100)
    index = index_folder(tmp_path)
    assert {bad.path for bad in index.bad} == {
        "valve",
        *(f"valve/{n}" for n in NAMES if n.startswith("train")),
    }
    assert index.clips["machine_type"].unique().to_list() == ["fan"]
    assert index.truth.height == 4


def test_a_table_that_lists_no_test_clips_need_not(tmp_path: Path) -> None:
    write_type(tmp_path)
    table = tmp_path / "fan" / "attributes_00.csv"
    lines = table.read_text().splitlines()
    table.write_text("\ufeff" + "\n".join(line for line in lines if "/test/" not in line) + "\n\n")
    assert index_folder(tmp_path).bad == []
    table.write_text("\n".join(lines[:-1]))
    assert [(bad.path, bad.reason) for bad in index_folder(tmp_path).bad] == [
        (f"fan/{NAMES[-1]}", "it has no row in attributes_00.csv")
    ]


def test_no_attribute_is_no_attribute(tmp_path: Path) -> None:
    name = "train/section_00_source_train_normal_0000_noAttribute.wav"
    write_clip(tmp_path / "fan" / name, 1)
    write_table(
        tmp_path / "fan" / "attributes_00.csv",
        [["file_name", "d1p", "d1v"], [f"fan/{name}", "noAttribute", ""]],
    )
    index = index_folder(tmp_path)
    assert index.bad == []
    assert index.clips["attributes"].to_list() == [[]]


def test_repeated_content_within_a_split_is_noted_and_keeps_unique_ids(tmp_path: Path) -> None:
    write_type(tmp_path)
    shutil.copy(tmp_path / "fan" / NAMES[0], tmp_path / "fan" / NAMES[1])
    index = index_folder(tmp_path)
    assert index.bad == []
    assert index.notes == [f"fan/train: 1 clip repeats another's content (fan/{NAMES[1]} = fan/{NAMES[0]})"]
    assert index.clips["clip_id"].n_unique() == 9
    assert index.clips["content_hash"].n_unique() == 8


def test_recordings_come_from_provenance(tmp_path: Path) -> None:
    write_type(tmp_path)
    rows = [
        [f"fan/{NAMES[0]}", "1.0", "flight_1"],
        [f"fan/{NAMES[1]}", "2.0", ""],
        ["fan/x.wav", "0", "flight_2"],
    ]
    write_table(tmp_path / "fan" / "provenance.csv", [["file_name", "start_s", "original"], *rows])
    index = index_folder(tmp_path)
    assert index.bad == []
    assert dict(index.clips.drop_nulls("recording").select("path", "recording").iter_rows()) == {
        f"fan/{NAMES[0]}": "flight_1"
    }
    assert index.notes == ["fan/provenance.csv: 1 rows name clips that do not exist; they were ignored"]
    write_table(tmp_path / "fan" / "provenance.csv", [["file", "original"], ["a", "b"]])
    assert index_folder(tmp_path).notes == [
        "fan/provenance.csv was ignored: it has no columns file_name and original"
    ]


def test_what_lies_aside_is_noted(tmp_path: Path) -> None:
    write_type(tmp_path, names=[name for name in NAMES if name.startswith("train")])
    (tmp_path / "papers").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "fan" / "supplemental").mkdir()
    (tmp_path / "fan" / "train" / ".DS_Store").touch()
    index = index_folder(tmp_path)
    assert index.bad == []
    assert index.notes == [
        "fan/train: 1 hidden files ignored",
        "fan/supplemental/ was ignored",
        "papers/ was ignored",
        "fan has no test clips",
    ]


def test_unchanged_files_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_type(tmp_path)
    first = index_folder(tmp_path)
    known = first.clips.join(first.fingerprints, on="path")
    decoded: list[str] = []

    def watched(path: Path) -> object:
        decoded.append(path.relative_to(tmp_path).as_posix())
        return facts_or_reason(path)

    monkeypatch.setattr(clips_module, "facts_or_reason", watched)
    again = index_folder(tmp_path, previous=known)
    assert decoded == []
    assert again.clips.equals(first.clips)
    assert again.truth.equals(first.truth)
    assert again.fingerprints.equals(first.fingerprints)

    same_size, other_size, moved = (tmp_path / "fan" / name for name in NAMES[:3])
    write_clip(same_size, 77)
    os.utime(same_size, ns=(0, 1))
    before = other_size.stat().st_mtime_ns
    write_clip(other_size, 78, samples=400)
    os.utime(other_size, ns=(before, before))
    target = moved.with_name("section_00_source_train_normal_0009_spd_2_m-n_A.wav")
    moved.rename(target)
    seen: list[tuple[int, int]] = []
    index_folder(tmp_path, previous=known, progress=lambda done, of: seen.append((done, of)))
    assert sorted(decoded) == sorted([f"fan/{NAMES[0]}", f"fan/{NAMES[1]}", f"fan/train/{target.name}"])
    assert seen == [(6, 9), (7, 9), (8, 9), (9, 9)]


def test_any_number_of_threads_finds_the_same(tmp_path: Path) -> None:
    write_type(
        tmp_path, names=[f"train/section_00_source_train_normal_{i:04d}_spd_1_m-n_A.wav" for i in range(40)]
    )
    (tmp_path / "fan" / NAMES[0].replace("0000_spd_0", "0000_spd_1")).write_text("not audio")
    here = index_folder(tmp_path, workers=1)
    pooled = index_folder(tmp_path, workers=4)
    assert pooled.clips.equals(here.clips)
    assert pooled.bad == here.bad
    assert len(pooled.bad) == 1


def test_a_folder_name_that_cannot_be_shown_is_refused_and_a_file_name_is_bad(tmp_path: Path) -> None:
    write_type(tmp_path)
    try:
        odd = tmp_path / "fan" / "train" / os.fsdecode(b"section_00_source_train_normal_0009_spd_\xff.wav")
        write_clip(tmp_path / "aside.wav", 1)
        (tmp_path / "aside.wav").rename(odd)
    except OSError:
        pytest.skip("this file system takes valid UTF-8 only")
    (bad,) = index_folder(tmp_path).bad
    assert bad.path == "fan/train/section_00_source_train_normal_0009_spd_\ufffd.wav"
    assert "unprintable" in bad.reason
    (tmp_path / "fan").rename(tmp_path / os.fsdecode(b"fan\xff"))
    with pytest.raises(InputError, match="unprintable characters; rename it"):
        index_folder(tmp_path)


def test_development_and_evaluation_data_may_lie_side_by_side(tmp_path: Path) -> None:
    write_type(tmp_path / "dev_data", "fan", seed=1)
    write_type(tmp_path / "dev_data", "valve", seed=2)
    names = [name.replace("section_00", "section_03") for name in NAMES if name.startswith("train")]
    write_type(tmp_path / "eval_data", "fan", seed=3, names=[*names, "test/section_03_0000.wav"])
    (tmp_path / "eval_data" / "fan" / "attributes_00.csv").rename(
        tmp_path / "eval_data" / "fan" / "attributes_03.csv"
    )
    table = tmp_path / "eval_data" / "fan" / "attributes_03.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "/test/" not in line))
    (tmp_path / "papers").mkdir()
    (tmp_path / "eval_data" / "notes").mkdir()
    index = index_folder(tmp_path)
    assert index.bad == []
    assert index.notes == [
        "eval_data/notes/ was ignored",
        "papers/ was ignored",
    ]
    counts = index.clips.group_by("machine_type", "subset", "section").len().sort(pl.all()).rows()
    assert counts == [("fan", "dev", "00", 9), ("fan", "eval", "03", 6), ("valve", "dev", "00", 9)]
    assert all(
        path.startswith(f"{subset}_data/")
        for path, subset in index.clips.select("path", "subset").iter_rows()
    )
    (only,) = set(index_folder(tmp_path / "eval_data").clips["subset"])
    assert only == "eval"

    table.write_text(table.read_text() + f"\nfan/{names[0]},spd,5,m-n,A\nfan/train/gone.wav,spd,1,m-n,A\n")
    found = {bad.path: bad.reason for bad in index_folder(tmp_path).bad}
    assert found.keys() == {f"eval_data/fan/{names[0]}", "eval_data/fan/train/gone.wav"}


def test_a_section_without_any_label_is_of_the_evaluation_subset(tmp_path: Path) -> None:
    train = "train/section_0{}_source_train_normal_0000_spd_1.wav"
    names = [
        *(train.format(section) for section in range(4)),
        "test/section_00_0000.wav",
        "test/section_00_0001.wav",
        "test/section_01_source_test_normal_0000_spd_1.wav",
        "test/section_01_0001.wav",
        "test/section_02_source_test_anomaly_0000_spd_1.wav",
    ]
    for seed, name in enumerate(names):
        write_clip(tmp_path / "fan" / name, seed)
    clips = index_folder(tmp_path).clips
    assert dict(clips.group_by("section").agg(pl.col("subset").unique().first()).iter_rows()) == {
        "00": "eval",
        "01": "dev",
        "02": "dev",
        "03": "dev",
    }
    assert clips.group_by("section").agg(pl.col("subset").n_unique())["subset"].max() == 1


def test_supplemental_clips_are_a_split_of_their_own_and_must_not_be_test_clips(tmp_path: Path) -> None:
    write_type(tmp_path)
    write_clip(tmp_path / "fan" / "supplemental" / "section_00_machine_0001_.wav", 50)
    shutil.copy(
        tmp_path / "fan" / NAMES[-1], tmp_path / "fan" / "supplemental" / "section_00_machine_0002_.wav"
    )
    index = index_folder(tmp_path)
    assert index.layout is not None
    assert index.layout.name == "sections-with-supplement"
    extra = index.clips.filter(split="supplemental")
    assert extra.select("section", "domain").unique().rows() == [("00", None)]
    assert extra.height == 2
    assert not set(extra["clip_id"]) & set(index.truth["clip_id"])
    (bad,) = index.bad
    assert bad.path == f"fan/{NAMES[-1]}"
    assert (
        "data leak: its content equals that of the supplemental clip fan/supplemental/section_00_machine_"
        in (bad.reason)
    )


def test_a_layout_may_be_given(tmp_path: Path) -> None:
    write_clip(tmp_path / "fan" / "train" / "section_00_source_train_normal_0000_strength_1_ambient.wav", 1)
    (bad,) = {bad.reason for bad in index_folder(tmp_path).bad if "train/" in bad.path}
    assert "a sequence of attribute names and values" in bad
    index = index_folder(tmp_path, layout=DOMAIN_FOLDERS)
    assert index.bad == []
    assert index.clips["attributes"].to_list() == [[{"name": "condition", "value": "strength_1_ambient"}]]


def test_folders_that_hold_no_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder '.*nowhere'"):
        index_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no machine types in"):
        index_folder(tmp_path)
    write_type(tmp_path / "sounds")
    with pytest.raises(InputError, match=r"did you mean '.*sounds'"):
        index_folder(tmp_path)
    with pytest.raises(
        InputError, match=r"the folder of one machine type; give its parent folder, '.*sounds'"
    ):
        index_folder(tmp_path / "sounds" / "fan")
    with pytest.raises(InputError, match="workers is 0"):
        index_folder(tmp_path / "sounds", workers=0)


def test_the_truth_survives_the_disk_and_damage_is_told(tmp_path: Path) -> None:
    write_type(tmp_path / "set")
    truth = index_folder(tmp_path / "set").truth
    save_truth(tmp_path / "truth.parquet", truth)
    assert load_truth(tmp_path / "truth.parquet").equals(truth)
    save_private(tmp_path / "other.parquet", truth.rename({"anomaly": "normal"}))
    with pytest.raises(InputError, match="is not a truth table"):
        load_truth(tmp_path / "other.parquet")
    (tmp_path / "truth.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"truth table .* cannot be read"):
        load_truth(tmp_path / "truth.parquet")
    with pytest.raises(InputError, match=r"truth table .* cannot be read"):
        load_truth(tmp_path / "missing.parquet")


@pytest.mark.skipif("ASDBENCH_SHOP" not in os.environ, reason="ASDBENCH_SHOP does not name the recordings")
def test_the_shop_is_what_its_readme_files_say() -> None:
    index = index_folder(Path(os.environ["ASDBENCH_SHOP"]))
    assert (index.bad, index.notes) == ([], [])
    joined = index.clips.join(index.truth, on="clip_id", how="left")
    columns = ("machine_type", "split", "domain", "anomaly")
    counts = {tuple(key): n for *key, n in joined.group_by(columns).len().iter_rows()}
    told = {
        "BearingFEMTO": (298, 10, 49, 49, 50, 50),
        "FanMIMII": (36, 10, 40, 40, 40, 40),
        "UAVPropeller": (140, 10, 50, 50, 50, 50),
    }
    cells = [
        ("train", "source", None),
        ("train", "target", None),
        *(("test", domain, anomaly) for domain in ("source", "target") for anomaly in (False, True)),
    ]
    assert counts == {
        (machine_type, *cell): n
        for machine_type, numbers in told.items()
        for cell, n in zip(cells, numbers, strict=True)
    }
    assert set(index.clips["sample_rate_hz"]) == {16000}
    assert set(index.clips["channels"]) == {1}
    durations = dict(index.clips.group_by("machine_type").agg(pl.col("duration_s").unique()).iter_rows())
    assert {machine_type: values for machine_type, (*values,) in durations.items()} == {
        "BearingFEMTO": [0.9775],
        "FanMIMII": [10.0],
        "UAVPropeller": [6.0],
    }
    assert index.clips["recording"].null_count() == 0
    by_split = dict(
        index.clips.group_by("split").agg(pl.struct("machine_type", "recording").unique()).iter_rows()
    )
    shared = [row for row in by_split["train"] if row in by_split["test"]]
    assert shared == []
