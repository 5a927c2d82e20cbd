"""The embedded data set: layout, determinism, no label in the loudness."""

import csv
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

from asdbench.data.synthetic.dataset import MACHINE_TYPES, planned_clips, write_demo
from asdbench.data.synthetic.machines import MACHINES, SAMPLE_RATE_HZ, Scene, keyed_rng, record
from asdbench.errors import InputError


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All types at the smallest size: 17 + 3 training clips, 4 cells of 5."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    write_demo(folder, clips_per_type=20, duration_s=1.0, processes=1)
    return folder


def one_type(folder: Path, **settings: object) -> dict[str, bytes]:
    parameters = {"clips_per_type": 20, "duration_s": 1.0, "machine_types": ["valve"], "processes": 1}
    write_demo(folder, **{**parameters, **settings})  # type: ignore[arg-type]
    return content(folder)


def scene(machine_type: str, defect: str | None, severity: float) -> Scene:
    attributes = MACHINES[machine_type].source[0]
    rng = keyed_rng(3, "scene")
    return Scene(0, machine_type, "source", attributes, defect, severity, 2 * SAMPLE_RATE_HZ, rng)


def test_equal_parameters_give_equal_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    first, again, other = (
        one_type(tmp_path / name, seed=seed) for name, seed in [("a", 5), ("b", 5), ("c", 6)]
    )
    assert first == again
    assert first.keys() == other.keys()
    wavs = [name for name in first if name.endswith(".wav")]
    assert all(first[name] != other[name] for name in wavs)
    assert len({first[name] for name in wavs}) == len(wavs)


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    assert one_type(tmp_path / "one", processes=1) == one_type(tmp_path / "two", processes=2)


def test_bytes_of_a_type_do_not_depend_on_the_other_types(demo: Path, tmp_path: Path) -> None:
    alone = one_type(tmp_path / "alone")
    whole = content(demo)
    assert {n: b for n, b in whole.items() if n.startswith("valve/")} == {
        n: b for n, b in alone.items() if n != "README.txt"
    }


def test_layout_names_and_attribute_table_agree(demo: Path) -> None:
    assert sorted(p.name for p in demo.iterdir()) == sorted(["README.txt", *MACHINE_TYPES])
    for machine_type in MACHINE_TYPES:
        with (demo / machine_type / "attributes_00.csv").open(newline="") as file:
            header, *rows = csv.reader(file)
        names = list(MACHINES[machine_type].source[0])
        assert header == ["file_name", *[f"d{i + 1}{x}" for i in range(len(names)) for x in "pv"]]
        on_disk = {str(p.relative_to(demo)) for p in (demo / machine_type).rglob("*.wav")}
        assert {row[0] for row in rows} == on_disk
        for path, *pairs in rows:
            assert pairs[::2] == names
            assert path.removesuffix(".wav").endswith("_".join(["", *pairs]))
            assert Path(path).name.startswith("section_00_")


def test_sizes_and_labels_are_balanced(demo: Path) -> None:
    for machine_type in MACHINE_TYPES:
        cells = Counter("_".join(p.name.split("_")[2:5]) for p in (demo / machine_type).rglob("*.wav"))
        assert cells == {
            "source_train_normal": 17,
            "target_train_normal": 3,
            **{f"{d}_test_{label}": 5 for d in ("source", "target") for label in ("normal", "anomaly")},
        }


def test_a_thousand_clips_give_the_numbers_of_the_challenge() -> None:
    clips = planned_clips("fan", clips_per_type=1000, seed=0, duration_s=10.0)
    counts = Counter((c.split, c.domain, c.label) for c in clips)
    assert counts["train", "source", "normal"] == 990
    assert counts["train", "target", "normal"] == 10
    assert {n for (split, _, _), n in counts.items() if split == "test"} == {50}


def test_source_and_target_share_no_operating_condition() -> None:
    for machine in MACHINES.values():
        target = [*machine.target, *machine.test_only]
        assert not any(a == b for a, b in itertools.product(machine.source, target))


def test_some_target_values_occur_in_the_test_split_only() -> None:
    clips = planned_clips("bearing", clips_per_type=100, seed=0, duration_s=1.0)
    speeds = {split: {c.attributes["vel"] for c in clips if c.split == split} for split in ("train", "test")}
    assert speeds["test"] - speeds["train"] == {"3", "25"}


def test_clips_are_16_bit_mono_at_16_khz_and_do_not_clip(demo: Path) -> None:
    for path in demo.rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", 16_000)
        assert 0.01 < np.max(np.abs(soundfile.read(path)[0])) < 1.0


@pytest.mark.parametrize("machine_type", MACHINE_TYPES)
def test_loudness_does_not_tell_the_label(machine_type: str) -> None:
    clips = planned_clips(machine_type, clips_per_type=200, seed=0, duration_s=1.0)
    clips = [clip for clip in clips if clip.split == "test" and clip.domain == "source"]
    level = [np.sqrt(np.mean(record(clip.scene()) ** 2)) for clip in clips]
    assert 0.3 < roc_auc_score([clip.label == "anomaly" for clip in clips], level) < 0.7


@pytest.mark.parametrize(("machine_type", "defect"), [(m, d) for m in MACHINES for d in MACHINES[m].defects])
def test_a_defect_changes_the_sound_the_more_the_severer(machine_type: str, defect: str) -> None:
    sound = MACHINES[machine_type].sound
    healthy = sound(scene(machine_type, None, 0.0))
    change = [np.std(sound(scene(machine_type, defect, s)) - healthy) for s in (0.0, 1.0)]
    assert 0 < change[0] < change[1]


def test_severities_are_graded_evenly() -> None:
    clips = planned_clips("fan", clips_per_type=100, seed=1, duration_s=1.0)
    severities = np.sort([c.scene().severity for c in clips if c.domain == "source" and c.label == "anomaly"])
    assert np.max(np.diff(severities)) < 0.1
    assert severities[0] < 0.1
    assert severities[-1] > 0.9


def test_the_same_data_set_is_left_alone_and_another_is_refused(tmp_path: Path) -> None:
    one_type(tmp_path / "demo")
    seen = []
    one_type(tmp_path / "demo", progress=lambda done, total: seen.append(done))
    assert seen == []
    with pytest.raises(InputError, match="not empty and does not hold"):
        one_type(tmp_path / "demo", seed=1)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="give another folder"):
        one_type(tmp_path / "notes")
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep me"


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_type(tmp_path / "demo", progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_clip(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    one_type(tmp_path / "demo", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 40) for i in range(1, 41)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"machine_types": ["valv"]}, "did you mean 'valve'"),
        ({"machine_types": []}, "machine_types is empty"),
        ({"clips_per_type": 19}, "at least 20"),
        ({"duration_s": 0.5}, "duration_s is 0.5"),
        ({"seed": -1}, "seed is -1"),
        ({"processes": 0}, "processes is 0"),
    ],
)
def test_bad_parameters_are_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        one_type(tmp_path / "demo", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(InputError, match="is a file"):
        one_type(tmp_path / "demo")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot make the folder '.*/file/demo' \(Not a directory\)"):
        one_type(tmp_path / "file" / "demo")
