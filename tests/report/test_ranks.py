from pathlib import Path

import pytest

from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.report.leaderboard_selection import Selection
from asdbench.report.ranks import Ranks, load_ranks, rank_rows
from asdbench.report.rendering import Row
from tests.commands import asdbench
from tests.report.made_up import made_up

SYSTEMS = ("baseline-mse", "baseline-maha", "spectra-gauss")
TYPES = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve")


def row(number: int, system: str) -> Row:
    return {"number": number, "system": system, "settings": {}, "tuned": None, "official_score": 0.6}


def falling(step: float, n_types: int = 7) -> Ranks:
    """Four rows whose scores fall by a step from one to the next, on every machine type."""
    rows = [row(number, system) for number, system in enumerate("abcd", start=1)]
    scores = [dict.fromkeys(TYPES[:n_types], 0.8 - step * place) for place in range(4)]
    return rank_rows(rows, scores, title="Ranks")


def test_rows_that_the_tests_tell_apart_are_in_different_groups() -> None:
    ranked = falling(0.05)
    assert [row["average_rank"] for row in ranked.rows] == [1, 2, 3, 4]
    assert ranked.friedman.statistic == pytest.approx(21)  # its maximum, the types times the rows less one
    assert ranked.critical_difference == pytest.approx(1.773, abs=1e-3)
    assert [row["groups"] for row in ranked.rows] == [["a"], ["a", "b"], ["b", "c"], ["c"]]
    assert [row["p_value"] for row in ranked.rows] == [None, *[pytest.approx(3 / 64)] * 3]
    assert "Rows that share a letter are not told apart at 95 % confidence." in " ".join(str(ranked).split())
    assert ranked.notes == ()


def test_without_a_difference_all_rows_are_one_group() -> None:
    ranked = falling(0.0)
    assert {row["average_rank"] for row in ranked.rows} == {2.5}
    assert ranked.groups == ((0, 3),)
    assert "As Friedman's test finds no difference, all rows are one group." in " ".join(str(ranked).split())


def test_few_machine_types_are_said_to_have_little_power() -> None:
    (note,) = falling(0.05, n_types=4).notes
    assert note.startswith(
        "with 4 machine types the tests have little power, and Wilcoxon's p-value is at least"
    )
    assert falling(0.05, n_types=5).notes == ()


def test_the_diagram_has_a_mark_a_row_and_a_bar_a_group() -> None:
    text = str(falling(0.05)).splitlines()
    marks = {line.split()[0]: line.index("●") for line in text if "●" in line}
    assert list(marks) == ["a", "b", "c", "d"]
    bars = [(line.index("━"), line.rindex("━")) for line in text if "━" in line]
    assert bars == [(marks["a"], marks["b"]), (marks["b"], marks["c"]), (marks["c"], marks["d"])]


def test_ranks_are_those_of_the_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    made_up(tmp_path, SYSTEMS, seeds=[0], embeddings=False)
    workspace = Workspace.from_home(tmp_path / "home")
    ranked = load_ranks("tiny", workspace)
    assert ranked.machine_types == ("fan", "valve")
    assert ranked.title == "Average ranks on tiny"
    assert {row["number"] for row in ranked.rows} == {1, 2, 3}
    with pytest.raises(InputError, match=r"at least three rows .* and tiny has 2; 'asdbench compare'"):
        load_ranks("tiny", workspace, selection=Selection(SYSTEMS[:2]))
    path = tmp_path / "ranks.png"
    assert asdbench("leaderboard", "--data", "tiny", "--ranks", "--figure", str(path)) == 0
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks", "--by", "type"], "--ranks and --by exclude each other; drop one of them"),
        (["--ranks", "--intervals"], "--ranks and --intervals exclude each other"),
        (["--figure", "ranks.png"], "--figure draws what --ranks shows; add --ranks"),
    ],
)
def test_options_that_exclude_each_other(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asdbench("leaderboard", "--data", "tiny", *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", ["ranks.svg", "ranks.PDF"])
def test_a_figure_has_the_kind_of_its_name(name: str, tmp_path: Path) -> None:
    falling(0.05).save_figure(tmp_path / name)
    assert (tmp_path / name).read_bytes()[:5] in (b"<?xml", b"%PDF-")


def test_a_figure_of_another_kind_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'ranks.txt' does not end in .png, .svg, .pdf"):
        falling(0.05).save_figure(Path("ranks.txt"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the figure cannot be written to"):
        falling(0.05).save_figure(tmp_path / "file" / "ranks.png")
