"""Results of others: exported, imported, compared and checked."""

import hashlib
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.blocks import Figures
from asdbench.report.comparison import load_comparison
from asdbench.report.imported_results import import_result
from asdbench.report.leaderboard_selection import Selection
from asdbench.report.leaderboard_view import load_leaderboard
from asdbench.report.ranks import load_ranks
from asdbench.report.rendering import DisplayTable
from asdbench.report.report_data import collect
from asdbench.report.result_export import export_result
from asdbench.report.result_folder import ResultFile, check_repository, csv_paths, write_result_file
from asdbench.report.row_sections import leaderboard_section, machine_types_section
from tests.commands import asdbench
from tests.report.made_up import made_up


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data home with two rows of three seeds, and the exported result of one of them."""
    folder = tmp_path_factory.mktemp("exported")
    made_up(folder, seeds=range(3), embeddings=False)
    workspace = Workspace.from_home(folder / "home")
    written = export_result("baseline-mse", workspace, data="tiny", folder=folder / "results", license="CC0")
    return folder / "home", written


@pytest.fixture
def workspace(exported: tuple[Path, Path], tmp_path: Path) -> Workspace:
    shutil.copytree(exported[0], tmp_path / "home")
    return Workspace.from_home(tmp_path / "home")


@pytest.fixture
def result(exported: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported[1], tmp_path / "results" / "tiny" / "baseline-mse"))


def test_a_row_that_was_exported_and_imported_does_not_differ_from_itself(
    workspace: Workspace, result: Path
) -> None:
    import_result(result, workspace, name="theirs", data="tiny", source="a letter", license="CC0")
    compared = load_comparison("tiny", workspace, ["baseline-mse", "theirs"], resamples=50)
    assert [line["difference"] for line in compared.rows] == [0.0, 0.0, 0.0]
    assert compared.interval == (0.0, 0.0)
    assert compared.rows[0]["seeds"] == [0, 1, 2]
    assert compared.marks == {"theirs": "scored elsewhere and judged here (a letter)"}
    board = load_leaderboard("tiny", workspace, intervals=True)
    rows = {row["system"]: row for row in board.rows}
    for key in ("official_score", "official_score_std", "official_score_low", "auc_source", "seeds"):
        assert rows["theirs"][key] == rows["baseline-mse"][key]
    assert (rows["theirs"]["tier"], rows["theirs"]["imported"]["source"]) == ("imported", "a letter")
    assert rows["theirs"]["number"] is not None
    assert str(workspace.home) not in board.to_json() + board.to_csv()
    assert "theirs (imported)" in board.to_markdown()
    assert (
        "Imported, that is, scored elsewhere and judged here: theirs (a letter, CC0)." in board.to_markdown()
    )
    by_type = load_leaderboard("tiny", workspace, by_type=True, intervals=True, reference=True)
    assert [row["machine_type"] for row in by_type.rows if row["system"] == "theirs"] == ["fan", "valve"]
    assert {row["system"] for row in load_ranks("tiny", workspace).rows} >= {"theirs"}
    assert len(load_leaderboard("tiny", workspace, selection=Selection(preset="demo")).rows) == 0


def test_a_submission_of_one_run_is_imported_from_a_zip(
    workspace: Workspace, result: Path, tmp_path: Path
) -> None:
    package = tmp_path / "theirs.zip"
    with zipfile.ZipFile(package, "w") as archive:
        for file in (result / "seed-1").iterdir():
            archive.write(file, f"task2/theirs_task2_1/{file.name}")
        archive.writestr("task2/theirs_task2_1/theirs.meta.yaml", "submission: {}")
    imported = import_result(package, workspace, name="theirs", data="tiny")
    assert imported.record.seeds == ()
    assert "| tiny | theirs | dev | unknown | 4 |" in imported.to_markdown()
    assert imported.frame.columns[:3] == ["data", "name", "subsets"]
    compared = load_comparison("tiny", workspace, ["baseline-mse", "theirs"], seeds=[1], resamples=50)
    assert compared.difference == 0
    of_all = load_comparison("tiny", workspace, ["baseline-mse", "theirs"], resamples=50)
    assert of_all.rows[0]["seeds"] == [0, 1, 2]
    assert not of_all.is_significant
    assert "Nothing is bold: with 1 seed" in " ".join(str(of_all).split())
    with pytest.raises(InputError, match="tiny has an imported result 'theirs' already"):
        import_result(package, workspace, name="theirs", data="tiny")
    import_result(result, workspace, name="theirs", data="tiny", replace=True)
    assert load_leaderboard("tiny", workspace).rows[0]["seeds"] == [0, 1, 2]


def _without_a_clip(folder: Path) -> None:
    path = folder / "seed-0" / "anomaly_score_fan_section_00_test.csv"
    path.write_text("\n".join(path.read_text().splitlines()[1:]))


def _with_a_foreign_clip(folder: Path) -> None:
    with (folder / "seed-0" / "anomaly_score_fan_section_00_test.csv").open("a") as file:
        file.write("other.wav,0.5\n")


def _without_a_type(folder: Path) -> None:
    (folder / "seed-0" / "anomaly_score_valve_section_00_test.csv").unlink()


def _with_nan(folder: Path) -> None:
    path = folder / "seed-2" / "anomaly_score_fan_section_00_test.csv"
    name, _, _ = path.read_text().partition(",")
    path.write_text(path.read_text().replace(path.read_text().splitlines()[0], f"{name},nan"))


def _without_scores(folder: Path) -> None:
    for path in folder.rglob("anomaly_score_*.csv"):
        path.unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_a_clip, "has no row for .*; every test clip needs one"),
        (_with_a_foreign_clip, "'other.wav' is not a test clip of fan section 00"),
        (_without_a_type, "has no anomaly_score_valve_section_00_test.csv"),
        (_with_nan, "'nan' is not a finite number"),
        (_without_scores, "there is no score file"),
    ],
)
def test_what_is_damaged_is_not_imported(
    change: Callable[[Path], None], message: str, workspace: Workspace, result: Path
) -> None:
    change(result)
    with pytest.raises(InputError, match=r"has changed|is missing"):
        import_result(result, workspace, name="theirs", data="tiny")
    (result / "result.json").unlink()
    with pytest.raises(InputError, match=message):
        import_result(result, workspace, name="theirs", data="tiny")
    assert list(workspace.home.glob("imported/tiny/*")) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../out.csv", "leads out of the zip"),
        ("/etc/out.csv", "leads out of the zip"),
        ("..\\out.csv", "leads out of the zip"),
        ("large.csv", "is too large"),
    ],
)
def test_a_zip_cannot_write_elsewhere_or_fill_the_disk(
    name: str, message: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asdbench.report.import_files._MOST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(name, "0" * (2000 if name == "large.csv" else 10))
    with pytest.raises(InputError, match=message):
        import_result(tmp_path / "bad.zip", workspace, name="theirs", data="tiny")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="is not a zip file that can be read"):
        import_result(tmp_path / "bad.zip", workspace, name="theirs", data="tiny")


@pytest.mark.parametrize(
    ("name", "message"),
    [("../theirs", "cannot name a result"), ("baseline-mse", "'baseline-mse' is the name of a system")],
)
def test_a_name_is_no_path_and_no_system(name: str, message: str, workspace: Workspace, result: Path) -> None:
    with pytest.raises(InputError, match=message):
        import_result(result, workspace, name=name, data="tiny")


def test_an_imported_file_that_has_changed_takes_its_row_away(workspace: Workspace, result: Path) -> None:
    imported = import_result(result, workspace, name="theirs", data="tiny")
    path = imported.folder / "seed-0" / "anomaly_score_fan_section_00_test.csv"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    board = load_leaderboard("tiny", workspace)
    assert {row["system"] for row in board.rows} == {"baseline-mse", "baseline-maha"}
    (note,) = [note for note in board.notes if "theirs" in note]
    assert "seed-0/anomaly_score_fan_section_00_test.csv has changed" in note


def test_an_edited_file_fails_the_check(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = result.parents[2]
    assert asdbench("results", "check", str(repository)) == 0
    assert "1 result: no problem found" in capsys.readouterr().out
    path = result / "seed-0" / "anomaly_score_fan_section_00_test.csv"
    path.write_text(path.read_text() + "more.wav,high\n")
    (result / "seed-1" / "decision_result_valve_section_00_test.csv").unlink()
    (result.parent / "empty").mkdir()
    assert asdbench("results", "check", str(repository)) == 2
    captured = capsys.readouterr()
    problems = captured.out.splitlines()
    assert any("seed-0/anomaly_score_fan_section_00_test.csv has changed: its SHA-256" in p for p in problems)
    assert any("'more.wav,high' is not a file name and a value" in problem for problem in problems)
    assert any("valve_section_00_test.csv is missing" in problem for problem in problems)
    assert any(problem.startswith("tiny/empty: ") for problem in problems)
    assert "in 2 results" in captured.err
    checked = check_repository(repository)
    assert (checked.n_results, checked.problems, checked.ok) == (2, problems, False)
    assert f"| tiny/empty | {checked.rows[-1]['problem']} |" in checked.to_markdown()


def test_a_zip_with_a_file_twice_or_with_names_that_no_folder_takes_is_refused(
    workspace: Workspace, result: Path, tmp_path: Path
) -> None:
    scores = result / "seed-0" / "anomaly_score_fan_section_00_test.csv"
    for names, message in (
        ([scores.name, scores.name], "twice; give a zip with each file once"),
        (["a.csv/b.csv", "a.csv"], "is not a zip file that can be read"),
        (["a" * 300 + ".csv"], "is not a zip file that can be read"),
    ):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                archive.writestr(name, scores.read_text())
        with pytest.raises(InputError, match=message):
            import_result(tmp_path / "bad.zip", workspace, name="theirs", data="tiny")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w", method) as archive:
            archive.write(scores, scores.name)
        damaged = bytearray((tmp_path / "bad.zip").read_bytes())
        damaged[100:140] = bytes(40)
        (tmp_path / "bad.zip").write_bytes(damaged)
        with pytest.raises(InputError, match="is not a zip file that can be read"):
            import_result(tmp_path / "bad.zip", workspace, name="theirs", data="tiny")


def test_a_zip_of_an_exported_result_keeps_its_checksums_license_and_marks(
    workspace: Workspace, result: Path, tmp_path: Path
) -> None:
    record = json.loads((result / "result.json").read_text())
    (result / "result.json").write_text(json.dumps(record | {"marks": ["dev-tuned", "transductive"]}))
    package = Path(shutil.make_archive(str(tmp_path / "theirs"), "zip", result.parent))
    import_result(package, workspace, name="theirs", data="tiny")
    board = load_leaderboard("tiny", workspace)
    (row,) = [row for row in board.rows if row["system"] == "theirs"]
    assert (row["imported"]["license"], row["imported"]["marks"]) == ("CC0", ["dev-tuned", "transductive"])
    shown = board.to_markdown(), load_ranks("tiny", workspace).to_markdown()
    assert all("dev-tuned" in text and "transductive" in text for text in shown)
    path = result / "seed-0" / "anomaly_score_fan_section_00_test.csv"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    package = Path(shutil.make_archive(str(tmp_path / "theirs"), "zip", result.parent))
    with pytest.raises(InputError, match="anomaly_score_fan_section_00_test"):
        import_result(package, workspace, name="others", data="tiny")


def test_what_a_spreadsheet_writes_is_imported(workspace: Workspace, result: Path) -> None:
    for path in (result / "seed-0").glob("*.csv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    import_result(result / "seed-0", workspace, name="theirs", data="tiny")
    compared = load_comparison("tiny", workspace, ["baseline-mse", "theirs"], seeds=[0], resamples=20)
    assert compared.difference == 0


def test_a_name_is_no_number_of_a_row_and_a_source_is_one_line(workspace: Workspace, result: Path) -> None:
    with pytest.raises(InputError, match="not digits only"):
        import_result(result, workspace, name="3", data="tiny")
    with pytest.raises(InputError, match="has a line break or a control character"):
        import_result(result, workspace, name="theirs", data="tiny", source="a\n| b |")


def test_an_imported_result_that_does_not_fit_the_data_set_leaves_the_others_on_the_board(
    workspace: Workspace, result: Path
) -> None:
    imported = import_result(result, workspace, name="theirs", data="tiny")
    fewer = imported.folder / "seed-0" / "anomaly_score_fan_section_00_test.csv"
    fewer.write_text("\n".join(fewer.read_text().splitlines()[1:]))
    (imported.folder / "result.json").unlink()
    write_result_file(imported.folder, "theirs", "tiny", ["dev"], seeds=range(3))
    board = load_leaderboard("tiny", workspace)
    assert {row["system"] for row in board.rows} == {"baseline-mse", "baseline-maha"}
    assert any("theirs is left out" in note and "has no row for" in note for note in board.notes)


def _rewritten(result: Path, **changed: object) -> list[str]:
    """Return the problems of a result whose record has checksums of what is there, with values changed."""
    files = {path: hashlib.sha256((result / path).read_bytes()).hexdigest() for path in csv_paths(result)}
    record = json.loads((result / "result.json").read_text()) | {"files": files} | changed
    (result / "result.json").write_text(json.dumps(record))
    return check_repository(result.parents[2]).problems


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0, 0, 1, 2]}, "says the seeds 0, 0, 1, 2, and its files are in seed-0, seed-1, seed-2"),
        ({"seeds": [0]}, "says the seeds 0, and its files are in seed-0, seed-1, seed-2"),
        ({"subsets": ["test"]}, "there are dev and eval"),
        ({"source": "a\x1b[31m"}, "has a line break or a control character"),
    ],
)
def test_a_record_that_contradicts_its_files_fails_the_check(
    changed: dict[str, object], message: str, result: Path
) -> None:
    (problem,) = _rewritten(result, **changed)
    assert message in problem


def test_files_that_contradict_each_other_fail_the_check(result: Path) -> None:
    lone = result / "seed-1" / "anomaly_score_valve_section_00_test.csv"
    lone.unlink()
    problems = _rewritten(result)
    assert any("seed-1 has other score files than seed-0" in problem for problem in problems)
    assert any("valve_section_00_test.csv decides on what has no score" in problem for problem in problems)


def test_the_check_does_not_follow_links(result: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("do not print\n")
    path = result / "seed-0" / "anomaly_score_fan_section_00_test.csv"
    path.unlink()
    path.symlink_to(tmp_path / "secret.txt")
    problems = check_repository(result.parents[2]).problems
    assert any("is a link; put the file itself there" in problem for problem in problems)
    assert not any("do not print" in problem for problem in problems)


def test_a_result_file_that_says_something_else_fails_the_check(result: Path) -> None:
    record = json.loads((result / "result.json").read_text())
    for changed, message in (
        (record | {"name": "other"}, "result.json says name 'other', and the folder is 'baseline-mse'"),
        (record | {"more": 1}, "unknown field `more`"),
        (record | {"schema_version": 2}, "schema version 2"),
        ({key: value for key, value in record.items() if key != "files"}, "missing required field `files`"),
    ):
        (result / "result.json").write_text(json.dumps(changed))
        problems = check_repository(result.parents[2]).problems
        assert any(message in problem for problem in problems), problems


def test_the_command_line_exports_and_imports(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(workspace.home))
    to = ("--data", "tiny", "--to", str(tmp_path / "out"))
    assert asdbench("results", "export", "baseline-maha", *to, "--name", "ours") == 0
    assert asdbench("results", "export", "baseline-maha", *to, "--name", "ours") == 2
    assert "exists already; remove it, or give another --name" in capsys.readouterr().err
    folder = str(tmp_path / "out" / "tiny" / "ours")
    assert asdbench("results", "import", folder, "--name", "theirs", "--data", "tiny") == 0
    assert "imported theirs on tiny: 3 runs, dev subset" in capsys.readouterr().out
    assert asdbench("results", "export", "theirs", *to) == 2
    assert "'theirs' is imported; export another row" in capsys.readouterr().err


def test_a_report_shows_imported_rows_on_its_leaderboard_only(workspace: Workspace, result: Path) -> None:
    import_result(result, workspace, name="theirs", data="tiny", source="a letter")
    data, store = catalog.load(workspace, "tiny"), JobStore.from_workspace(workspace)
    report = collect(data, store)
    rows = {row["system"]: row for row in report.rows}
    assert (rows["theirs"]["tier"], rows["baseline-maha"]["tier"]) == ("imported", "ours")
    assert rows["theirs"]["official_score_low"] == rows["baseline-mse"]["official_score_low"]
    (section,) = leaderboard_section(report)
    figure, table = section.blocks
    assert isinstance(figure, Figures)
    assert "theirs (imported) " in figure.drawings[0].description
    assert isinstance(table, DisplayTable)
    assert "theirs (a letter, CC0)" in table.caption
    (types,) = machine_types_section(report)
    assert "theirs" not in str(types)
    assert report.labels == ["baseline-mse", "baseline-maha"]
    alone = collect(data, store, systems=["baseline-maha"])
    assert [row["system"] for row in alone.rows] == ["baseline-maha"]


def test_imported_results_are_listed_and_removed(
    workspace: Workspace, result: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(workspace.home))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("theirs", "others"):
        import_result(result, workspace, name=name, data="tiny")
    assert asdbench("results", "list", "--systems", "theirs", "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["data"], row["system"], row["state"], row["subset"]) == ("tiny", "theirs", "imported", "dev")
    assert (row["seeds"], row["machine_types"], row["results"]) == ([0, 1, 2], ["fan", "valve"], 6)
    (workspace.home / "imported" / "tiny" / "others" / "result.json").write_text("{}")
    for format in ("table", "csv"):
        assert asdbench("results", "list", "--format", format) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert all(word in shown for word in ("baseline-maha", "theirs", "others", "imported, damaged"))
        assert format == "csv" or "12 results, 12 current." in shown
        assert format == "csv" or "2 imported results: scored elsewhere, and judged here." in shown
    assert asdbench("results", "list", "--outdated") == 0
    assert capsys.readouterr().out == "there are no such results\n"
    assert asdbench("results", "remove", "--data", "tiny", "--systems", "theirs", "--yes") == 0
    said = capsys.readouterr().out.splitlines()
    command = "asdbench results remove --data tiny --imported theirs"
    assert said[0] == f"1 imported result on tiny will stay; {command!r} removes it"
    assert asdbench(*command.split()[1:]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("to remove: 1 imported result on tiny: theirs (")
    assert "add --yes" in captured.err
    assert (workspace.home / "imported" / "tiny" / "theirs").exists()
    assert asdbench(*command.split()[1:], "others", "--yes") == 0
    assert list((workspace.home / "imported" / "tiny").iterdir()) == []
    assert len(load_leaderboard("tiny", workspace).rows) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "tiny", "--imported", "their"), "no imported result 'their' of tiny; there are: none"),
        (("--imported", "theirs"), "--imported needs --data NAME"),
        (("--data", "tiny", "--seeds", "1", "--imported", "theirs"), "give --imported with --data only"),
        (("--data", "*", "--imported", "theirs"), "no imported result 'theirs' of *; there are: none"),
        (("--data", "../tiny", "--imported", "theirs"), "no imported result 'theirs' of ../tiny"),
    ],
)
def test_what_cannot_be_removed_is_refused(
    options: tuple[str, ...],
    message: str,
    exported: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(exported[0]))
    assert asdbench("results", "remove", *options, "--yes") == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_schema_of_the_docs_is_that_of_the_code() -> None:
    path = Path(__file__).parents[2] / "docs" / "result.schema.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(msgspec.json.schema(ResultFile)))
