import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from asdbench.data.audio import facts_or_reason
from asdbench.data.sets import catalog, clips
from asdbench.data.sets.catalog import BadFolder, DataSet
from asdbench.data.sets.layouts import SECTIONS, TWO_MICROPHONES
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import IN_DOMAIN, OFFICIAL, WITHOUT_DOMAINS

NAMES = [
    *(f"train/section_00_source_train_normal_{i:04d}_spd_{i % 2}.wav" for i in range(3)),
    "train/section_00_target_train_normal_0000_spd_7.wav",
    "test/section_00_source_test_normal_0000_spd_1.wav",
    "test/section_00_target_test_anomaly_0000_spd_9.wav",
]


def write_clip(path: Path, seed: int, *, sample_rate_hz: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).integers(-999, 999, (320 + seed % 10, channels), dtype=np.int16)
    soundfile.write(path, wave, sample_rate_hz)


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, machine_type in ((1, "fan"), (2, "valve")):
        for offset, name in enumerate(NAMES):
            write_clip(tmp_path / "set" / machine_type / name, 10 * seed + offset)
    return tmp_path / "set"


def stored(home: Path) -> dict[str, bytes]:
    return {
        path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()
    }


def assert_equal(a: DataSet, b: DataSet) -> None:
    for field in dataclasses.fields(DataSet):
        if field.name == "clips":
            assert a.clips.equals(b.clips)
        else:
            assert getattr(a, field.name) == getattr(b, field.name)


def test_the_home_is_the_variable_or_the_user_folder(
    data_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Workspace.from_environment().home == data_home
    monkeypatch.delenv("ASDBENCH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert Workspace.from_environment().home.name == "asdbench"


def test_what_is_added_can_be_loaded(folder: Path) -> None:
    assert catalog.names(Workspace.from_environment()) == []
    started = datetime.now(UTC).replace(microsecond=0)
    added = catalog.add(Workspace.from_environment(), "mine", folder, channels="near")
    assert catalog.names(Workspace.from_environment()) == ["mine"]
    loaded = catalog.load(Workspace.from_environment(), "mine")
    assert_equal(added, loaded)
    assert loaded.root == folder
    assert loaded.channels == "near"
    assert loaded.machine_types == ("fan", "valve")
    assert started <= loaded.created <= datetime.now(UTC)
    assert (loaded.left_out, loaded.notes, loaded.license) == ((), (), None)
    anomalies = (
        catalog.truth(catalog.load(Workspace.from_environment(), "mine"))
        .filter("anomaly")
        .join(loaded.clips, on="clip_id")["path"]
    )
    assert sorted(anomalies) == [f"fan/{NAMES[-1]}", f"valve/{NAMES[-1]}"]


def test_the_folder_may_be_read_only_and_given_relatively(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(folder)
    monkeypatch.chdir(folder.parent)
    assert catalog.add(Workspace.from_environment(), "mine", Path("set")).root == folder
    assert stored(folder) == before


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "-x", "ä"])
def test_a_name_that_is_none_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not a valid data set name"):
        catalog.add(Workspace.from_environment(), name, folder)


def test_an_unknown_name_gets_a_hint(folder: Path) -> None:
    catalog.add(Workspace.from_environment(), "mine", folder)
    with pytest.raises(InputError, match=r"no data set 'mnie'; did you mean 'mine'\?.*asdbench data add"):
        catalog.load(Workspace.from_environment(), "mnie")
    with pytest.raises(InputError, match=r"no data set '\.\./data/mine'"):
        catalog.load(Workspace.from_environment(), "../data/mine")


def test_bad_files_register_nothing(folder: Path, data_home: Path) -> None:
    (folder / "fan" / "train" / "odd.wav").write_text("words")
    (folder / "valve" / NAMES[0]).write_bytes(b"")
    with pytest.raises(BadFolder, match=r"2 problems in '.*set' .*fan/train/odd\.wav.*--skip-bad") as caught:
        catalog.add(Workspace.from_environment(), "mine", folder)
    assert [bad.path for bad in caught.value.bad] == ["fan/train/odd.wav", f"valve/{NAMES[0]}"]
    assert catalog.names(Workspace.from_environment()) == []
    assert stored(data_home) == {}


def test_bad_files_can_be_left_out(folder: Path) -> None:
    (folder / "fan" / "train" / "odd.wav").write_text("words")
    added = catalog.add(Workspace.from_environment(), "mine", folder, skip_bad=True)
    assert [bad.path for bad in added.left_out] == ["fan/train/odd.wav"]
    assert added.clips.height == 12
    assert_equal(added, catalog.load(Workspace.from_environment(), "mine"))


def test_nothing_left_is_refused_even_so(folder: Path) -> None:
    for path in folder.glob("*/train/*"):
        path.write_bytes(b"")
    with pytest.raises(BadFolder, match="no usable file is left without these; repair them"):
        catalog.add(Workspace.from_environment(), "mine", folder, skip_bad=True)
    assert catalog.names(Workspace.from_environment()) == []


def test_folders_and_policies_that_are_none_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        catalog.add(Workspace.from_environment(), "mine", folder / "nowhere")
    with pytest.raises(InputError, match="the folder of one machine type"):
        catalog.add(Workspace.from_environment(), "mine", folder / "fan")
    with pytest.raises(InputError, match="no channel policy 'left'"):
        catalog.add(Workspace.from_environment(), "mine", folder, channels="left")  # type: ignore[arg-type]


def test_adding_again_decodes_only_what_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = catalog.add(Workspace.from_environment(), "mine", folder)
    decoded: list[str] = []

    def watched(path: Path) -> object:
        decoded.append("/".join(path.parts[-3:]))
        return facts_or_reason(path)

    monkeypatch.setattr(clips, "facts_or_reason", watched)
    again = catalog.add(Workspace.from_environment(), "mine", folder, channels="far")
    assert decoded == []
    assert again.clips.equals(first.clips)
    assert again.channels == catalog.load(Workspace.from_environment(), "mine").channels == "far"

    write_clip(folder / "fan" / NAMES[0], 99)
    assert not catalog.add(Workspace.from_environment(), "mine", folder).clips.equals(first.clips)
    assert decoded == [f"fan/{NAMES[0]}"]

    shutil.copytree(folder, folder.with_name("copy"))
    assert catalog.add(
        Workspace.from_environment(), "mine", folder.with_name("copy")
    ).root == folder.with_name("copy")
    assert len(decoded) == 1 + 12


def test_a_registration_keeps_no_outdated_tables(folder: Path, data_home: Path) -> None:
    catalog.add(Workspace.from_environment(), "mine", folder)
    before = set(stored(data_home))
    write_clip(folder / "fan" / NAMES[0], 99)
    catalog.add(Workspace.from_environment(), "mine", folder)
    after = set(stored(data_home))
    assert len(before) == len(after) == 5
    assert before & after == {"data/mine/dataset.json"}


@pytest.mark.parametrize("step", ["save_truth", "write_json"])
def test_a_failure_leaves_the_old_registration(
    folder: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    catalog.add(Workspace.from_environment(), "mine", folder)
    before = stored(data_home)
    write_clip(folder / "fan" / NAMES[0], 99)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(catalog, step, full)
    with pytest.raises(InputError, match=r"cannot write to the data home .*No space left.*ASDBENCH_HOME"):
        catalog.add(Workspace.from_environment(), "mine", folder)
    assert stored(data_home) == before

    (folder / "fan" / "train" / "odd.wav").write_text("words")
    with pytest.raises(BadFolder):
        catalog.add(Workspace.from_environment(), "mine", folder)
    assert stored(data_home) == before


def test_a_home_that_cannot_be_made_is_told(folder: Path, data_home: Path) -> None:
    data_home.write_text("a file")
    with pytest.raises(InputError, match="cannot write to the data home"):
        catalog.add(Workspace.from_environment(), "mine", folder)


@pytest.mark.parametrize("damage", ["json", "format", "table", "columns", "missing"])
def test_a_damaged_registration_is_told_and_mended_by_adding_again(
    folder: Path, data_home: Path, damage: str
) -> None:
    catalog.add(Workspace.from_environment(), "mine", folder)
    (table,) = (data_home / "data" / "mine").glob("clips-*.parquet")
    if damage == "json":
        (table.parent / "dataset.json").write_text("{")
    elif damage == "format":
        (table.parent / "dataset.json").write_text(json.dumps({"format": 0}))
    elif damage == "table":
        table.write_bytes(b"PAR1")
    elif damage == "columns":
        pl.read_parquet(table).drop("channels").write_parquet(table)
    else:
        table.unlink()
    with pytest.raises(InputError, match=r"registration of data set 'mine' is damaged.*asdbench data add"):
        catalog.load(Workspace.from_environment(), "mine")
    assert catalog.add(Workspace.from_environment(), "mine", folder).clips.equals(
        catalog.load(Workspace.from_environment(), "mine").clips
    )


def test_the_fingerprint_ignores_names_places_times_and_labels(folder: Path) -> None:
    mine = catalog.add(Workspace.from_environment(), "mine", folder)
    other = folder.with_name("elsewhere")
    shutil.copytree(folder, other)
    test = other / "fan" / "test"
    (test / "section_00_source_test_normal_0000_spd_1.wav").rename(
        test / "section_00_source_test_anomaly_0099_spd_1.wav"
    )
    for path in other.rglob("*.wav"):
        os.utime(path, ns=(0, 0))
    yours = catalog.add(Workspace.from_environment(), "yours", other)
    assert yours.fingerprint() == mine.fingerprint()
    assert not catalog.truth(catalog.load(Workspace.from_environment(), "mine")).equals(
        catalog.truth(catalog.load(Workspace.from_environment(), "yours"))
    )
    shuffled = dataclasses.replace(mine, clips=mine.clips.reverse())
    assert shuffled.fingerprint() == mine.fingerprint()


def test_the_fingerprint_covers_all_that_a_result_depends_on(folder: Path) -> None:
    mine = catalog.add(Workspace.from_environment(), "mine", folder)
    seen = {mine.fingerprint(), dataclasses.replace(mine, channels="far").fingerprint()}
    changes = {
        "content_hash": pl.lit("0"),
        "machine_type": pl.lit("pump"),
        "section": pl.lit("01"),
        "split": pl.lit("train"),
        "domain": pl.lit(None, pl.Utf8),
        "attributes": pl.lit([], mine.clips.schema["attributes"]),
        "recording": pl.lit("flight"),
    }
    for column, value in changes.items():
        last = pl.int_range(pl.len()) == pl.len() - 1
        other = "test" if column == "split" else None
        row = pl.col("split") == other if other else last
        changed = mine.clips.with_columns(pl.when(row).then(value).otherwise(pl.col(column)).alias(column))
        seen.add(dataclasses.replace(mine, clips=changed).fingerprint())
    assert len(seen) == 2 + len(changes)


def test_a_fingerprint_may_be_of_a_type_and_a_split(folder: Path) -> None:
    mine = catalog.add(Workspace.from_environment(), "mine", folder)
    before = {
        (t, s): mine.fingerprint(t, split=s) for t in (None, "fan", "valve") for s in (None, "train", "test")
    }
    assert len(set(before.values())) == 9
    write_clip(folder / "fan" / NAMES[-1], 99)
    after = catalog.add(Workspace.from_environment(), "mine", folder)
    changed = {key for key, value in before.items() if after.fingerprint(key[0], split=key[1]) != value}
    assert changed == {(t, s) for t in (None, "fan") for s in (None, "test")}
    with pytest.raises(InputError, match="no machine type 'fna'; did you mean 'fan'"):
        mine.fingerprint("fna")
    with pytest.raises(InputError, match="no split 'tests'; did you mean 'test'"):
        mine.fingerprint(split="tests")


def test_changed_files_are_found_without_decoding(folder: Path) -> None:
    mine = catalog.add(Workspace.from_environment(), "mine", folder)
    assert catalog.changed_files(mine) == []
    longer, touched, gone = (folder / "fan" / name for name in NAMES[:3])
    before = longer.stat().st_mtime_ns
    write_clip(longer, 99)
    os.utime(longer, ns=(before, before))
    os.utime(touched, ns=(0, 1))
    gone.unlink()
    assert catalog.changed_files(mine) == [f"fan/{name}" for name in NAMES[:3]]


def test_the_license_is_what_the_folder_says(folder: Path) -> None:
    (folder / "LICENSE").write_text("Creative Commons\nAttribution 4.0\n\nThis license applies to all.\n")
    (folder / "fan" / "readme.md").write_text(
        "Fans.\n\nORIGIN: a shop.\nLICENCE: CC BY-SA 4.0,\nsee there.\nLIMITS: none.\n"
    )
    (folder / "valve" / "README.txt").write_text("Valves.\n")
    expected = "Creative Commons Attribution 4.0\nfan: CC BY-SA 4.0, see there."
    assert catalog.add(Workspace.from_environment(), "mine", folder).license == expected
    assert catalog.load(Workspace.from_environment(), "mine").license == expected


def test_a_data_set_is_described(folder: Path) -> None:
    for offset, name in enumerate(NAMES[:2]):
        write_clip(folder / "fan" / name, 70 + offset, sample_rate_hz=48000, channels=2)
    shutil.copy(folder / "valve" / NAMES[0], folder / "valve" / NAMES[1])
    told = catalog.describe(catalog.add(Workspace.from_environment(), "mine", folder, channels="far"))
    assert told.counts.columns == ["machine_type", "section", "subset", "split", "domain", "clips"]
    assert told.counts.rows()[:4] == [
        ("fan", "00", "dev", "test", "source", 1),
        ("fan", "00", "dev", "test", "target", 1),
        ("fan", "00", "dev", "train", "source", 3),
        ("fan", "00", "dev", "train", "target", 1),
    ]
    assert told.durations.filter(machine_type="fan", split="train").row(0) == pytest.approx(
        ("fan", "train", 4, 320 / 48000, (321 / 48000 + 322 / 16000) / 2, 323 / 16000)
    )
    assert told.formats.rows() == [("fan", 16000, 1, 4), ("fan", 48000, 2, 2), ("valve", 16000, 1, 6)]
    assert told.attributes.filter(machine_type="fan").rows() == [
        ("fan", "test", "spd", "1", 1),
        ("fan", "test", "spd", "9", 1),
        ("fan", "train", "spd", "0", 2),
        ("fan", "train", "spd", "1", 1),
        ("fan", "train", "spd", "7", 1),
    ]
    assert told.license is None
    assert told.notes == (
        f"valve/train: 1 clip repeats another's content (valve/{NAMES[1]} = valve/{NAMES[0]})",
        "fan: 2 clips: the last of 2 channels is used, 48000 Hz is resampled to 16000 Hz",
    )


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("both", "the first and then the last of 2 channels is used"),
        ("mean", "the mean of 2 channels is used"),
    ],
)
def test_what_becomes_of_channels_is_said(folder: Path, policy: Any, said: str) -> None:
    write_clip(folder / "fan" / NAMES[0], 70, channels=2)
    assert catalog.describe(
        catalog.add(Workspace.from_environment(), "mine", folder, channels=policy)
    ).notes == (f"fan: 1 clips: {said}",)


def test_the_layout_is_kept_and_says_what_becomes_of_channels(folder: Path) -> None:
    added = catalog.add(Workspace.from_environment(), "mine", folder, layout=TWO_MICROPHONES)
    assert (added.layout, added.channels, added.manifest) == ("two-microphones", "near", None)
    assert_equal(added, catalog.load(Workspace.from_environment(), "mine"))
    assert added.add_command == f"asdbench data add mine {folder} --channels near --layout two-microphones"
    assert (
        catalog.add(
            Workspace.from_environment(), "mine", folder, layout=TWO_MICROPHONES, channels="far"
        ).channels
        == "far"
    )
    found = catalog.add(Workspace.from_environment(), "mine", folder)
    assert (found.layout, found.channels) == ("sections", "mean")
    with pytest.raises(InputError, match=r"--manifest 'clips.csv' and --layout sections exclude each other"):
        catalog.add(Workspace.from_environment(), "mine", folder, layout=SECTIONS, manifest=Path("clips.csv"))


def test_a_registration_by_an_older_version_is_refused_with_its_own_command(
    folder: Path, data_home: Path
) -> None:
    added = catalog.add(Workspace.from_environment(), "mine", folder)
    file = data_home / "data" / "mine" / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 1}))
    with pytest.raises(InputError, match="an older version registered the data set 'mine'") as caught:
        catalog.load(Workspace.from_environment(), "mine")
    assert f"'{added.add_command}'" in str(caught.value)
    again = catalog.add(Workspace.from_environment(), "mine", folder)
    assert again.clips.equals(added.clips)


def test_the_fingerprint_ignores_subsets_and_the_domains_of_evaluation_test_clips(folder: Path) -> None:
    mine = catalog.add(Workspace.from_environment(), "mine", folder)
    evaluation = dataclasses.replace(mine, clips=mine.clips.with_columns(subset=pl.lit("eval")))
    assert evaluation.fingerprint(split="train") == mine.fingerprint(split="train")
    hidden = pl.when(pl.col("split") == "train").then(pl.col("domain"))
    unlabeled = evaluation.clips.with_columns(domain=hidden)
    assert not unlabeled.equals(evaluation.clips)
    assert dataclasses.replace(mine, clips=unlabeled).fingerprint() == evaluation.fingerprint()
    dev = unlabeled.with_columns(subset=pl.lit("dev"))
    assert dataclasses.replace(mine, clips=dev).fingerprint() == evaluation.fingerprint()
    assert mine.fingerprint() != evaluation.fingerprint()


def test_the_name_then_the_clips_decide_the_rule(folder: Path) -> None:
    mine = catalog.add(Workspace.from_environment(), "mine", folder)
    assert mine.rule is OFFICIAL
    assert dataclasses.replace(mine, name="dcase2021").rule is IN_DOMAIN
    assert dataclasses.replace(mine, layout="domain-folders").rule is IN_DOMAIN
    nowhere = mine.clips.with_columns(domain=pl.lit(None, pl.Utf8))
    assert dataclasses.replace(mine, clips=nowhere).rule is WITHOUT_DOMAINS
    assert dataclasses.replace(mine, clips=nowhere, name="dcase2023").rule is OFFICIAL


def test_subsets_are_those_of_test_clips(folder: Path) -> None:
    mine = catalog.add(Workspace.from_environment(), "mine", folder)
    assert mine.subsets() == ("dev",)
    fans = (pl.col("machine_type") == "fan") & (pl.col("split") == "test")
    clips = mine.clips.with_columns(subset=pl.when(fans).then(pl.lit("eval")).otherwise("subset"))
    both = dataclasses.replace(mine, clips=clips)
    assert both.subsets() == ("dev", "eval")
    assert (both.subsets("fan"), both.subsets("valve")) == (("eval",), ("dev",))
    assert dataclasses.replace(mine, clips=clips.filter(split="train")).subsets() == ("dev",)


def test_licenses_of_subsets_side_by_side_are_found(folder: Path) -> None:
    root = folder.with_name("both")
    shutil.copytree(folder, root / "dev_data")
    (root / "README.md").write_text("License: of all\n")
    (root / "dev_data" / "LICENSE").write_text("of the development data\n\nmore\n")
    (root / "dev_data" / "fan" / "LICENSE").write_text("of the fans\n")
    added = catalog.add(Workspace.from_environment(), "mine", root)
    assert added.license == "of all\nof the development data\nfan: of the fans"


def test_a_data_set_without_attributes_is_described(tmp_path: Path) -> None:
    write_clip(tmp_path / "set" / "fan" / "train" / "section_00_source_train_normal_0000_noAttribute.wav", 1)
    assert catalog.describe(
        catalog.add(Workspace.from_environment(), "mine", tmp_path / "set")
    ).attributes.is_empty()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: {"format": 1},
        lambda record: {key: value for key, value in record.items() if key != "truth"},
        lambda record: {**record, "root": 3},
        lambda record: {**record, "created": "yesterday"},
        lambda record: {**record, "channels": "left"},
        lambda record: {**record, "left_out": [{"file": "a.wav"}]},
        lambda record: {**record, "left_out": [3]},
    ],
)
def test_a_registration_that_lacks_something_is_damaged_and_can_be_made_again(
    folder: Path, data_home: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    catalog.add(Workspace.from_environment(), "mine", folder)
    file = data_home / "data" / "mine" / "dataset.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(InputError, match=r"registration of data set 'mine' is damaged \(.*asdbench data add"):
        catalog.load(Workspace.from_environment(), "mine")
    assert_equal(
        catalog.add(Workspace.from_environment(), "mine", folder),
        catalog.load(Workspace.from_environment(), "mine"),
    )


def test_a_registration_that_is_no_json_is_damaged(folder: Path, data_home: Path) -> None:
    catalog.add(Workspace.from_environment(), "mine", folder)
    (data_home / "data" / "mine" / "dataset.json").write_text("{")
    with pytest.raises(
        InputError,
        match=r"data set 'mine' is damaged \(Expecting [^;]*\); register its recordings",
    ):
        catalog.truth(catalog.load(Workspace.from_environment(), "mine"))


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/asdbench"])
def test_a_home_that_cannot_be_written_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / place))
    for attempt in (
        Workspace.from_environment().check_home,
        lambda: catalog.add(Workspace.from_environment(), "mine", folder),
    ):
        with pytest.raises(InputError, match=rf"home '.*{place}' \(.*\); set ASDBENCH_HOME to another"):
            attempt()


def test_a_home_that_is_read_only_is_named(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Workspace.from_environment().check_home()
    assert list(data_home.iterdir()) == []

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write anywhere
    with pytest.raises(InputError, match=r"cannot write to the data home .*Permission denied"):
        Workspace.from_environment().check_home()


def test_a_data_set_is_read_once_until_its_registration_changes(
    folder: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace.from_environment()
    catalog.add(workspace, "fans", folder)
    first = catalog.load(workspace, "fans")
    assert catalog.load(Workspace.from_environment(), "fans") is first
    assert (
        catalog.load(Workspace.from_home(data_home, storage="s3://b/x"), "fans").workspace.storage.uri
        == "s3://b/x"
    )
    assert first.fingerprint() == first.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(json, "dumps", lambda *_, **__: pytest.fail("computed again"))
        assert first.fingerprint() == first.fingerprint()
    catalog.add(workspace, "fans", folder, channels="near")
    second = catalog.load(workspace, "fans")
    assert (first.channels, second.channels) == ("mean", "near")
    (table,) = (data_home / "data" / "fans").glob("clips-*.parquet")
    table.write_bytes(b"damaged")
    with pytest.raises(InputError, match="the registration of data set 'fans' is damaged"):
        catalog.load(workspace, "fans")
