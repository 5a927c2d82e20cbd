"""Every layout as a miniature: indexed, with the right counts and domains, labels in the truth alone."""

import csv
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
import soundfile

from asdbench.data.loader import JobData
from asdbench.data.sets import catalog
from asdbench.data.sets.clips import CLIP_SCHEMA, Index, index_folder
from asdbench.data.sets.layouts import TWO_MICROPHONES
from asdbench.io.workspace import Workspace
from asdbench.spec import MelSpec
from asdbench.system import BatchPlan, InputSpec
from tests.miniatures import MINIATURES, Written, write_miniature

NEEDS = InputSpec(mel=MelSpec(hop_samples=512, n_mels=16), window_frames=8, window_hop_frames=8)
PLAN = BatchPlan(size=8, draw="window-per-clip")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    return {
        name: write_miniature(tmp_path_factory.mktemp(name.replace(" ", "-")), miniature)
        for name, miniature in MINIATURES.items()
    }


@pytest.fixture(scope="module")
def indexed(written: dict[str, Written]) -> dict[str, Index]:
    return {
        name: index_folder(made.data, layout=TWO_MICROPHONES if name == "two microphones" else None)
        for name, made in written.items()
    }


@pytest.mark.parametrize("name", MINIATURES)
def test_every_layout_comes_out_as_the_same_clip_table(
    written: dict[str, Written], indexed: dict[str, Index], name: str
) -> None:
    index = indexed[name]
    assert (index.bad, index.notes) == ([], [])
    assert index.layout is MINIATURES[name].layout
    assert index.clips.schema == CLIP_SCHEMA
    hidden = MINIATURES[name].ground_truth != "domains"
    expected = {
        clip.path: (
            clip.machine_type,
            clip.section,
            clip.subset,
            clip.split,
            None if hidden and clip.subset == "eval" and clip.split == "test" else clip.domain,
            clip.attributes,
        )
        for clip in written[name].clips
    }
    found = {
        row["path"]: (
            row["machine_type"],
            row["section"],
            row["subset"],
            row["split"],
            row["domain"],
            tuple((pair["name"], pair["value"]) for pair in row["attributes"]),
        )
        for row in index.clips.iter_rows(named=True)
    }
    assert found == expected


@pytest.mark.parametrize("name", MINIATURES)
def test_labels_are_in_the_truth_and_nowhere_else(
    written: dict[str, Written], indexed: dict[str, Index], name: str
) -> None:
    index = indexed[name]
    told = index.clips.join(index.truth, on="clip_id")
    assert dict(told.select("path", "anomaly").iter_rows()) == {
        clip.path: clip.anomalous
        for clip in written[name].clips
        if clip.subset == "dev" and clip.split == "test"
    }
    seen = index.clips.drop("path", "content_hash")
    for word in ("normal", "anomaly"):
        assert word not in str(seen.to_dicts())


@pytest.mark.parametrize("name", MINIATURES)
def test_training_takes_clips_of_the_training_split_alone(
    written: dict[str, Written], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path))
    data = catalog.add(Workspace.from_environment(), "mini", written[name].data)
    plan = BatchPlan(size=8, draw="window-per-clip", pseudo_anomaly_share=0.5, target_rows=1)
    job = JobData(data, data.machine_types[0], input_spec=NEEDS, plan=plan, seed=0)
    drawn = {int(job._clips.clip_id[clip]) for step in range(50) for clip in job._rows.of_step(step).clip}
    trained = data.clips.filter(pl.col("split") == "train")
    assert drawn <= set(trained["clip_id"]) - set(job.hold_out_ids.tolist())
    assert set(trained.filter(pl.col("clip_id").is_in(list(drawn)))["machine_type"]) == {*data.machine_types}


@pytest.mark.parametrize("name", MINIATURES)
def test_supplemental_clips_are_neither_trained_on_nor_scored(
    written: dict[str, Written], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path))
    data = catalog.add(Workspace.from_environment(), "mini", written[name].data)
    for machine_type in data.machine_types:
        job = JobData(data, machine_type, input_spec=NEEDS, plan=PLAN, seed=0)
        used = {*job.training_ids.tolist(), *job.hold_out_ids.tolist(), *job.test_ids.tolist()}
        left = data.clips.filter(pl.col("machine_type") == machine_type, ~pl.col("clip_id").is_in(list(used)))
        assert set(left["split"]) == ({"supplemental"} if name == "supplement" else set())


def test_two_microphones_are_two_channels(written: dict[str, Written], indexed: dict[str, Index]) -> None:
    clips = indexed["two microphones"].clips
    assert set(clips["channels"]) == {2}
    wave, _ = soundfile.read(written["two microphones"].data / clips["path"][0])
    assert wave[:, 0].std() > 1.5 * wave[:, 1].std()
    assert set(indexed["first shot"].clips["channels"]) == {1}


@pytest.mark.parametrize("name", MINIATURES)
def test_the_ground_truth_is_in_the_format_of_the_evaluator(written: dict[str, Written], name: str) -> None:
    """The names of the files say machine type and section; their rows name the clips of both."""
    made = written[name]
    hidden = {clip.path: clip for clip in made.clips if clip.subset == "eval" and clip.split == "test"}
    known = {(clip.machine_type, Path(path).name): clip for path, clip in hidden.items()}
    seen: Counter[str] = Counter()
    for file in sorted(made.ground_truth.rglob("*.csv")):
        with file.open() as table:
            rows = list(csv.reader(table))
        if file.name == "eval_data_list.csv":
            machine = ""
            for row in rows:
                machine = row[0] if len(row) == 1 else machine
                if len(row) == 3:
                    clip = known[machine, row[0]]
                    assert row[2] == str(int(bool(clip.anomalous)))
                    assert row[1].startswith("anomaly" if clip.anomalous else "normal")
                    seen["data"] += 1
            continue
        machine, section = file.name.split("_")[2], file.name.split("_")[4]
        for wav, value in rows:
            clip = known[machine, wav]
            assert clip.section == section
            kind = file.parent.name.removeprefix("ground_truth_")
            truth = {"data": clip.anomalous, "domain": clip.domain == "target"}[kind]
            assert value == str(int(bool(truth)))
            assert clip.domain in file.name or MINIATURES[name].ground_truth != "domains"
            seen[kind] += 1
    both = {"data": len(hidden), "domain": len(hidden)}
    assert seen == (both if MINIATURES[name].ground_truth == "sections" else {"data": len(hidden)})


def test_numbers_of_evaluation_clips_tell_nothing_and_a_seed_tells_all(tmp_path: Path) -> None:
    mini = MINIATURES["first shot"]
    made = [write_miniature(tmp_path / str(k), mini, seed=seed) for k, seed in enumerate((0, 0, 1))]
    assert made[0].clips == made[1].clips
    assert made[0].clips != made[2].clips
    anomalous = [
        clip.anomalous
        for clip in sorted(made[0].clips, key=lambda clip: clip.path)
        if clip.subset == "eval" and clip.split == "test" and clip.machine_type == "bandsaw"
    ]
    assert anomalous != sorted(anomalous, key=bool)
    files = [sorted(path for path in one.data.rglob("*") if path.is_file()) for one in made[:2]]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_the_traps_of_the_real_data_sets_are_there(
    written: dict[str, Written], indexed: dict[str, Index]
) -> None:
    def names(name: str, machine: str) -> set[str]:
        return {Path(clip.path).name for clip in written[name].clips if clip.machine_type == machine}

    def told(name: str, machine: str, split: str) -> set[tuple[str, str]]:
        rows = indexed[name].clips.filter(machine_type=machine, split=split)["attributes"].to_list()
        return {(pair["name"], pair["value"]) for row in rows for pair in row}

    toys = names("first shot", "ToyCar")
    assert not any("_normal_0000_" in name for name in toys)
    assert ("m-n", "Z") in told("first shot", "fan", "test") - told("first shot", "fan", "train")
    assert any("weight00_BckgA" in name for name in names("no attributes", "RoboticArm"))
    assert ("weight", "00") in told("no attributes", "RoboticArm", "train")
    assert any("target_train_normal_0012" in name for name in names("no attributes", "BrushlessMotor"))
    assert any(name.endswith("_noAttribute.wav") for name in names("no attributes", "gearbox"))
    assert told("no attributes", "gearbox", "train") == set()
    assert any(name.endswith("_m-n_W_.wav") for name in names("two microphones", "fan"))
    assert {value for name, value in told("first shot", "ToyTank", "train") if name == "mic"} == {"1"}
    assert told("supplement", "bandsaw", "supplemental") == {("sound", "noise")}
    assert ("condition", "serial_no_030_water") in told("domain folders", "fan", "train")
