import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from asdbench.cli.main import main
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import BadFolder
from asdbench.data.sets.clips import CLIP_SCHEMA, index_manifest
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

HEADER = ("path", "machine_type", "split", "label", "domain", "section", "attributes", "group", "subset")
ROWS = [
    ("a/1.wav", "press", "train", "normal", "source", "01", "load=2;oil=A", "monday", ""),
    ("a/2.wav", "press", "train", "", "target", "01", "", "monday", ""),
    ("b/3.flac", "press", "test", "anomaly", "source", "01", " load = 3 ", "", ""),
    ("b/4.wav", "press", "test", "", "", "01", "", "", ""),
    ("c/5.wav", "pump", "train", "", "", "", "", "", "dev"),
    ("c/6.wav", "pump", "test", "", "", "", "", "", ""),
    ("c/7.wav", "pump", "supplemental", "", "", "", "", "", ""),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    for number, (path, *_) in enumerate(ROWS):
        place = tmp_path / "sounds" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        wave = np.random.default_rng(number).integers(-999, 999, 320, dtype=np.int16)
        soundfile.write(place, wave, 16000)
    return tmp_path / "sounds"


def write(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = HEADER) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_a_manifest_gives_the_clip_table_and_the_truth(folder: Path, tmp_path: Path) -> None:
    index = index_manifest(folder, write(tmp_path / "clips.csv", ROWS))
    assert (index.bad, index.notes, index.layout) == ([], [], None)
    assert index.clips.schema == CLIP_SCHEMA
    told = {
        row["path"]: (
            row["machine_type"],
            row["split"],
            row["domain"],
            row["section"],
            [tuple(pair.values()) for pair in row["attributes"]],
            row["recording"],
            row["subset"],
        )
        for row in index.clips.iter_rows(named=True)
    }
    assert told == {
        "a/1.wav": ("press", "train", "source", "01", [("load", "2"), ("oil", "A")], "monday", "dev"),
        "a/2.wav": ("press", "train", "target", "01", [], "monday", "dev"),
        "b/3.flac": ("press", "test", "source", "01", [("load", "3")], None, "dev"),
        "b/4.wav": ("press", "test", None, "01", [], None, "dev"),
        "c/5.wav": ("pump", "train", None, "00", [], None, "dev"),
        "c/6.wav": ("pump", "test", None, "00", [], None, "eval"),
        "c/7.wav": ("pump", "supplemental", None, "00", [], None, "eval"),
    }
    labels = index.truth.join(index.clips, on="clip_id")
    assert labels.select("path", "anomaly").rows() == [("b/3.flac", True)]


def test_few_columns_are_enough_and_parquet_is_as_good(folder: Path, tmp_path: Path) -> None:
    short = [row[:3] for row in ROWS]
    index = index_manifest(folder, write(tmp_path / "clips.csv", short, HEADER[:3]))
    assert index.bad == []
    assert index.truth.is_empty()
    table = pl.DataFrame(short, schema=list(HEADER[:3]), orient="row")
    table = table.with_columns(
        section=pl.lit(7), label=pl.lit(None), domain=pl.lit("source").cast(pl.Categorical)
    )
    table.write_parquet(tmp_path / "clips.parquet")
    from_parquet = index_manifest(folder, tmp_path / "clips.parquet")
    assert from_parquet.bad == []
    assert set(from_parquet.clips["section"]) == {"7"}
    assert from_parquet.clips["clip_id"].sort().equals(index.clips["clip_id"].sort())


def test_all_bad_rows_and_files_are_listed_at_once(folder: Path, tmp_path: Path) -> None:
    (folder / "c" / "empty.wav").touch()
    rows = [
        *ROWS,
        ("", "press", "train", "", "", "", "", "", ""),
        ("/abs.wav", "press", "train", "", "", "", "", "", ""),
        ("../up.wav", "press", "train", "", "", "", "", "", ""),
        ("c/notes.txt", "press", "train", "", "", "", "", "", ""),
        ("c/gone.wav", "press", "train", "", "", "", "", "", ""),
        ("c/empty.wav", "press", "train", "", "", "", "", "", ""),
        ("c/x1.wav", "", "train", "", "", "a/b", "", "", ""),
        ("c/x2.wav", "press", "learn", "good", "both", "", "", "", "final"),
        ("c/x3.wav", "press", "train", "anomaly", "", "", "load", "", ""),
        ("c/x4.wav", "press", "train", "", "", "", "load=1;load=2", "", ""),
        ("a/1.wav", "press", "test", "", "", "", "", "", ""),
        ("c/short.wav", "press"),
    ]
    index = index_manifest(folder, write(tmp_path / "clips.csv", rows))
    found = {bad.path: bad.reason for bad in index.bad}
    expected = {
        "clips.csv line 9": ["clips.csv line 9: its path is empty"],
        "/abs.wav": ["line 10: the path '/abs.wav' is not plain and relative"],
        "../up.wav": ["line 11: the path '../up.wav' is not plain and relative"],
        "c/notes.txt": ["line 12: the path does not end in .wav or .flac"],
        "c/gone.wav": ["no such file"],
        "c/empty.wav": ["empty file (0 bytes)"],
        "c/x1.wav": [
            "the machine_type '' cannot be part of",
            "the section 'a/b' cannot be part of a file name",
        ],
        "c/x2.wav": [
            "the split 'learn' is not train or test or supplemental",
            "the label 'good' is not normal or anomaly",
            "the domain 'both' is not source or target",
            "the subset 'final' is not dev or eval",
        ],
        "c/x3.wav": ["a training clip is labeled anomaly", "the attributes 'load' are not name=value"],
        "c/x4.wav": ["the attributes 'load=1;load=2' repeat a name"],
        "a/1.wav": ["clips.csv line 19 lists it again, after clips.csv line 2"],
        "clips.csv line 20": ["it has 2 fields, the header 9"],
    }
    assert found.keys() == expected.keys()
    for path, reasons in expected.items():
        for reason in reasons:
            assert reason in found[path]
    assert sorted(index.clips["path"]) == sorted(row[0] for row in ROWS if row[0] != "a/1.wav")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("clips.xlsx", "path", "ends neither in .csv, .tsv, .txt nor in .parquet; save it as one of these"),
        ("clips.csv", "path,machine_type\n", r"no column 'split', .*'path,machine_type'; it needs path"),
        ("clips.csv", "path,machine_type,split,lable\n", "no column 'lable'; did you mean 'label'"),
        ("clips.csv", "path|split\n", r"its header is 'path\|split'"),
        ("clips.csv", "path,machine_type,split,a,b\n", "unknown columns 'a', 'b'; remove them, or rename"),
        ("clips.csv", "path,machine_type,split,path\n", "repeats a column"),
        ("clips.csv", "path,machine_type,split\n", "has no rows"),
        ("clips.csv", "", "has no column 'path'"),
        ("clips.csv", 'path,machine_type,split\n"a', "cannot be used: it cannot be read as CSV text"),
        ("clips.parquet", "words", "cannot be read as Parquet"),
    ],
)
def test_what_is_no_manifest_is_refused(
    folder: Path, tmp_path: Path, name: str, content: str, why: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=why):
        index_manifest(folder, tmp_path / name)


def test_a_manifest_that_is_not_there_and_columns_that_are_no_text_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    for name in ("gone.csv", "gone.parquet"):
        with pytest.raises(InputError, match=f"the manifest '.*{name}' cannot be"):
            index_manifest(folder, tmp_path / name)
    with pytest.raises(InputError, match=r"no folder '.*nowhere'; give the folder to which"):
        index_manifest(tmp_path / "nowhere", write(tmp_path / "clips.csv", ROWS))
    table = pl.DataFrame({"path": ["a/1.wav"], "machine_type": [1.5], "split": ["train"]})
    table.write_parquet(tmp_path / "clips.parquet")
    with pytest.raises(
        InputError, match=r"column 'machine_type' of the manifest .* is of type Float64, not text"
    ):
        index_manifest(folder, tmp_path / "clips.parquet")


def test_a_data_set_remembers_its_manifest(folder: Path, tmp_path: Path) -> None:
    manifest = write(tmp_path / "my clips.csv", ROWS)
    added = catalog.add(Workspace.from_environment(), "mine", folder, manifest=manifest)
    assert (added.manifest, added.layout, added.channels) == (manifest, None, "mean")
    assert catalog.load(Workspace.from_environment(), "mine").manifest == manifest
    assert added.add_command == (
        f"asdbench data add mine {folder} --channels mean --manifest '{tmp_path}/my clips.csv'"
    )
    write(manifest, [*ROWS, ("c/gone.wav", "press", "train", "", "", "", "", "", "")])
    with pytest.raises(BadFolder, match=r"1 problem .*c/gone\.wav: no such file\); repair"):
        catalog.add(Workspace.from_environment(), "mine", folder, manifest=manifest)
    assert (
        len(
            catalog.add(
                Workspace.from_environment(), "mine", folder, manifest=manifest, skip_bad=True
            ).left_out
        )
        == 1
    )


def test_the_command_line_takes_a_manifest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = write(tmp_path / "clips.csv", ROWS)
    with pytest.raises(SystemExit) as stop:
        main(["data", "add", "mine", str(folder), "--manifest", str(manifest), "--channels", "both"])
    assert stop.value.code == 0
    assert "mine: 2 machine types, 7 clips registered" in capsys.readouterr().out
    assert catalog.load(Workspace.from_environment(), "mine").channels == "both"
    both = ["data", "add", "mine", str(folder), "--manifest", str(manifest), "--layout", "sections"]
    with pytest.raises(SystemExit) as stop:
        main(both)
    assert stop.value.code == 2
    assert "--layout sections exclude each other; give one" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "delimiter"), [("clips.csv", ";"), ("clips.tsv", "\t")])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_manifest_of_a_spreadsheet_gives_the_same_clips(
    folder: Path, tmp_path: Path, name: str, delimiter: str, encoding: str
) -> None:
    rows = [tuple(value.replace("press", "Püree") for value in row) for row in ROWS]
    expected = index_manifest(folder, write(tmp_path / "plain.csv", rows))
    with (tmp_path / name).open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([HEADER, *rows])
    index = index_manifest(folder, tmp_path / name)
    assert index.clips.equals(expected.clips)
    assert index.bad == []
    assert [note.partition(",")[0].partition(" and ")[0] for note in index.notes] == (
        [f"{name} is not UTF-8"] if encoding == "cp1252" else []
    )


def test_unquoted_semicolons_in_a_table_of_semicolons_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path;machine_type;split;attributes\na/1.wav;press;train;a=1;b=2\n")
    (bad,) = index_manifest(folder, tmp_path / "clips.csv").bad
    assert bad.reason == "it has 5 fields, the header 4; put values that contain ';' in quotes"
