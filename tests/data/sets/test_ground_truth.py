"""The organizers' ground truth: every format read, checked against the clips, entered in the truth alone."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from asdbench.cli.main import main
from asdbench.data.sets import catalog
from asdbench.data.sets.ground_truth import (
    GROUND_TRUTH_SCHEMA,
    Mismatch,
    match_labels,
    read_ground_truth,
    read_renamed_list,
    wrong_labels,
)
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from tests.miniatures import MINIATURES, MiniatureClip, Written, write_miniature

FORMATS = {"sections": "first shot", "domains": "domain folders", "list": "machine ids"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    names = {*FORMATS.values(), "several sections"}
    return {name: write_miniature(tmp_path_factory.mktemp("m") / "m", MINIATURES[name]) for name in names}


@pytest.fixture
def copied(
    originals: dict[str, Written], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Written]:
    """Give a miniature of one's own, to be spoilt."""
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")

    def copy(name: str) -> Written:
        shutil.copytree(originals[name].data.parent, tmp_path / "copy")
        there = tmp_path / "copy"
        made = originals[name]
        return replace(made, data=there / made.data.name, ground_truth=there / made.ground_truth.name)

    return copy


def hidden(written: Written) -> list[MiniatureClip]:
    return [clip for clip in written.clips if clip.subset == "eval" and clip.split == "test"]


def rename(written: Written, new_name: Callable[[MiniatureClip], str]) -> None:
    """Rename the evaluation test clips."""
    for clip in hidden(written):
        path = written.data / clip.path
        path.rename(path.with_name(new_name(clip)))


def told(clip: MiniatureClip, *, anomalous: bool | None = None) -> str:
    """Return the name of a clip that keeps its number and tells its domain and label."""
    label = "anomaly" if (clip.anomalous if anomalous is None else anomalous) else "normal"
    number = clip.path.removesuffix(".wav").rpartition("_")[2]
    return f"section_{clip.section}_{clip.domain}_test_{label}_{number}_vel_1.wav"


def asdbench(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize("name", FORMATS.values(), ids=FORMATS)
def test_every_format_says_what_is_true(originals: dict[str, Written], name: str) -> None:
    truth = read_ground_truth(originals[name].ground_truth)
    assert truth.schema == GROUND_TRUTH_SCHEMA
    assert set(truth.drop("renamed").iter_rows()) == {
        (clip.machine_type, clip.section, Path(clip.path).name, clip.domain, clip.anomalous)
        for clip in hidden(originals[name])
    }


def test_the_folder_of_the_labels_itself_will_do(originals: dict[str, Written]) -> None:
    folder = originals["first shot"].ground_truth
    assert read_ground_truth(folder / "ground_truth_data").equals(read_ground_truth(folder))


def spoil(change: Callable[[str], str], place: str = "ground_truth_data") -> Callable[[Path], None]:
    def spoiled(folder: Path) -> None:
        table = sorted((folder / place).iterdir())[0]
        table.write_text(change(table.read_text()))

    return spoiled


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no ground truth in .* give the folder of the organizers'"),
        (
            lambda folder: shutil.rmtree(folder / "ground_truth_domain"),
            "lacks its domains, .*ground_truth_domain",
        ),
        (
            spoil(lambda text: text.replace(",1\n", ",2\n", 1)),
            "has the value '2' for 'section_00_.*neither 0 nor 1",
        ),
        (spoil(lambda text: text + text), "lists 'section_00_0000.wav' twice"),
        (spoil(lambda text: text.replace(",", ";")), "does not have 2 fields"),
        (spoil(lambda text: '"' + text), "cannot be read as CSV text"),
        (spoil(lambda text: text.partition("\n")[2], "ground_truth_domain"), "lists other clips than"),
        (
            lambda folder: (folder / "ground_truth_data/ground_truth_fan_test.csv").write_text(""),
            "is not called ground_truth_<machine type>_section_<NN>_test.csv",
        ),
    ],
)
def test_damaged_ground_truth_is_named(
    copied: Callable[[str], Written], damage: Callable[[Path], None], message: str
) -> None:
    folder = copied("first shot").ground_truth
    damage(folder)
    with pytest.raises(InputError, match=message):
        read_ground_truth(folder)


@pytest.mark.parametrize(
    "text",
    [
        "id_01_00000000.wav,normal_id_01_00000000.wav,0\n",
        "fan\nid_01_00000000.wav\n",
        "fan\nid_01_00000000.wav,normal_id_01_00000000.wav\n",
        "fan\nid_01_00000000.wav,normal_id_01_00000000.wav,2\n",
        "fan\n" + 2 * "id_01_00000000.wav,normal_id_01_00000000.wav,0\n",
        "fan\na.wav,b.wav,0\n",
        "fan\n",
    ],
)
def test_a_damaged_list_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "eval_data_list.csv").write_text(text)
    with pytest.raises(InputError, match=r"eval_data_list.csv' .*,0\|1 for each of its clips"):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize("name", FORMATS.values(), ids=FORMATS)
def test_labels_reach_the_truth_and_domains_the_clips(copied: Callable[[str], Written], name: str) -> None:
    written = copied(name)
    before = catalog.add(Workspace.from_environment(), "mine", written.data)
    known = catalog.truth(catalog.load(Workspace.from_environment(), "mine"))
    assert asdbench("data", "labels", "mine", "--from", written.ground_truth) == 0
    data = catalog.load(Workspace.from_environment(), "mine")
    joined = data.clips.join(catalog.truth(catalog.load(Workspace.from_environment(), "mine")), on="clip_id")
    assert set(joined.select("path", "anomaly", "domain").iter_rows()) == {
        (clip.path, clip.anomalous, clip.domain) for clip in written.clips if clip.split == "test"
    }
    assert set(known.iter_rows()) <= set(
        catalog.truth(catalog.load(Workspace.from_environment(), "mine")).iter_rows()
    )
    assert data.clips.drop("domain").equals(before.clips.drop("domain"))
    training = pl.col("split") == "train"
    assert data.clips.filter(training).equals(before.clips.filter(training))
    assert (data.created, data.license, data.layout) == (before.created, before.license, before.layout)


def test_labels_survive_adding_the_folder_again(copied: Callable[[str], Written]) -> None:
    written = copied("first shot")
    catalog.add(Workspace.from_environment(), "mine", written.data)
    asdbench("data", "labels", "mine", "--from", written.ground_truth)
    before, truth = (
        catalog.load(Workspace.from_environment(), "mine"),
        catalog.truth(catalog.load(Workspace.from_environment(), "mine")),
    )
    (written.data / hidden(written)[0].path).unlink()
    after = catalog.add(Workspace.from_environment(), "mine", written.data)
    assert after.clips.height == before.clips.height - 1
    assert catalog.truth(catalog.load(Workspace.from_environment(), "mine")).height == truth.height - 1
    domains = after.clips.filter((pl.col("subset") == "eval") & (pl.col("split") == "test"))["domain"]
    assert domains.null_count() == 0


def test_clips_and_labels_that_do_not_fit_are_all_listed_and_nothing_changes(
    copied: Callable[[str], Written], capsys: pytest.CaptureFixture[str]
) -> None:
    written = copied("first shot")
    catalog.add(Workspace.from_environment(), "mine", written.data)
    before = (
        catalog.load(Workspace.from_environment(), "mine").clips,
        catalog.truth(catalog.load(Workspace.from_environment(), "mine")),
    )
    table = sorted((written.ground_truth / "ground_truth_data").iterdir())[0]
    machine = table.name.split("_")[2]
    for place in ("ground_truth_data", "ground_truth_domain"):
        file = written.ground_truth / place / table.name
        file.write_text(file.read_text().replace("section_00_0003.wav", "section_00_0099.wav"))
    assert asdbench("data", "labels", "mine", "--from", written.ground_truth) == 2
    said = capsys.readouterr().err.splitlines()
    assert f"eval_data/{machine}/test/section_00_0003.wav: the ground truth does not list it" in said
    assert f"{machine}/section_00_0099.wav: the ground truth lists it, but it does not exist" in said
    assert said[-1].startswith("asdbench: ground truth and evaluation clips differ in 2 clips (the first: ")
    assert catalog.load(Workspace.from_environment(), "mine").clips.equals(before[0])
    assert catalog.truth(catalog.load(Workspace.from_environment(), "mine")).equals(before[1])


def test_ground_truth_of_another_challenge_is_refused(originals: dict[str, Written]) -> None:
    clips = catalog.index_folder(originals["first shot"].data).clips
    other = read_ground_truth(originals["machine ids"].ground_truth)
    with pytest.raises(
        InputError, match=r"the ground truth has the machine types ToyCar, fan, the evaluation clips"
    ):
        match_labels(clips, other)
    with pytest.raises(InputError, match="no test clips of an evaluation subset"):
        match_labels(clips.filter(pl.col("subset") == "dev"), other)


def test_machine_types_without_clips_are_named(originals: dict[str, Written]) -> None:
    clips = catalog.index_folder(originals["first shot"].data).clips
    truth = read_ground_truth(originals["first shot"].ground_truth)
    first, second = sorted(set(truth["machine_type"]))
    found = match_labels(clips.filter(pl.col("machine_type") != second), truth)
    assert found.unused == (second,)
    assert found.table.height == truth.filter(pl.col("machine_type") == first).height
    with pytest.raises(Mismatch, match="the ground truth does not list it"):
        match_labels(clips, truth.filter(pl.col("machine_type") == first))


def test_renamed_clips_are_found_by_number_and_wrong_names_counted(
    copied: Callable[[str], Written], capsys: pytest.CaptureFixture[str]
) -> None:
    written = copied("several sections")
    wrong = [clip for clip in hidden(written) if clip.machine_type == "ToyCar"][:3]
    rename(written, lambda clip: told(clip, anomalous=clip.anomalous ^ (clip in wrong)))
    catalog.add(Workspace.from_environment(), "dcase2022", written.data)
    assert asdbench("data", "labels", "dcase2022", "--from", written.ground_truth) == 0
    said = capsys.readouterr().out
    cars = sum(clip.machine_type == "ToyCar" for clip in hidden(written))
    assert (
        f"note: names of the clips: 3 of {cars} labels of ToyCar are wrong; the ground truth is used" in said
    )
    assert "has wrong labels (296 of ToyCar, 312 of ToyTrain)" in said
    assert "labels of fan" not in said
    joined = catalog.load(Workspace.from_environment(), "dcase2022").clips.join(
        catalog.truth(catalog.load(Workspace.from_environment(), "dcase2022")), on="clip_id"
    )
    labeled = joined.filter(pl.col("subset") == "eval")
    assert sorted(labeled["anomaly"]) == sorted(clip.anomalous for clip in hidden(written))
    by_path = {row[0]: row[1] for row in labeled.select("path", "anomaly").iter_rows()}
    for clip in wrong:
        path = Path(clip.path).with_name(told(clip, anomalous=not clip.anomalous)).as_posix()
        assert by_path[path] is clip.anomalous


def test_renamed_clips_are_found_by_the_names_that_the_ground_truth_gives(
    copied: Callable[[str], Written],
) -> None:
    written = copied("first shot")
    names: dict[str, str] = {}
    tables: dict[str, list[str]] = {}
    for clip in hidden(written):  # numbers begin anew for each domain and label, as they do there
        label = "anomaly" if clip.anomalous else "normal"
        count = sum(f"{clip.machine_type}/{clip.domain}{label}" in key for key in names)
        new = f"section_{clip.section}_{clip.domain}_test_{label}_{count:04d}_vel_1"
        names[f"{clip.path}:{clip.machine_type}/{clip.domain}{label}"] = new
        table = f"ground_truth_{clip.machine_type}_section_{clip.section}_test.csv"
        tables.setdefault(table, []).append(f"{Path(clip.path).name},{new}\n")
    new_names = {key.partition(":")[0]: f"{new}.wav" for key, new in names.items()}
    rename(written, lambda clip: new_names[clip.path])
    clips = catalog.index_folder(written.data).clips
    clips = clips.with_columns(subset=pl.when(pl.col("path").str.starts_with("eval")).then(pl.lit("eval")))
    with pytest.raises(Mismatch):  # the numbers alone would lead astray
        match_labels(clips, read_ground_truth(written.ground_truth))
    (written.ground_truth / "ground_truth_attributes").mkdir()
    for table, lines in tables.items():
        (written.ground_truth / "ground_truth_attributes" / table).write_text("".join(lines))
    found = match_labels(clips, read_ground_truth(written.ground_truth))
    by_path = dict(clips.join(found.table, on="clip_id").select("path", "anomaly").iter_rows())
    assert by_path == {
        Path(clip.path).with_name(new_names[clip.path]).as_posix(): clip.anomalous for clip in hidden(written)
    }


def test_a_circulating_list_is_compared(
    copied: Callable[[str], Written], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = copied("several sections")
    truth = read_ground_truth(written.ground_truth)
    wrong = hidden(written)[:2]
    lines = []
    for machine in ("ToyCar", "fan"):
        lines.append(machine)
        for clip in hidden(written):
            if clip.machine_type == machine:
                name = told(clip, anomalous=clip.anomalous ^ (clip in wrong))
                lines.append(f"{Path(clip.path).name},{name}")
    circulating = tmp_path / "eval_data_list_2022.csv"
    circulating.write_text("\n".join(lines) + "\n")
    counted = wrong_labels(read_renamed_list(circulating), truth)
    cars = truth.filter(pl.col("machine_type") == "ToyCar").height
    assert counted == {"ToyCar": (2, cars), "fan": (0, truth.height - cars)}

    catalog.add(Workspace.from_environment(), "mine", written.data)
    command = ("data", "labels", "mine", "--from", written.ground_truth, "--renamed-list")
    assert asdbench(*command, circulating) == 0
    assert f"2022.csv: 2 of {cars} labels of ToyCar are wrong" in capsys.readouterr().out
    circulating.write_text("fan\nsection_03_0000.wav\n")
    assert asdbench(*command, circulating) == 2
