"""What --quiet leaves and what --json prints."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from asdbench.cli.main import app
from asdbench.cli.output import IS_QUIET, format_of, message_console, print_line, print_result
from asdbench.errors import InputError
from asdbench.testing import write_tiny
from tests.commands import asdbench

RUN = ("run", "baseline-mse", "--data", "demo", "--local", "--set", "epochs=2", "hidden=8")


@pytest.fixture(autouse=True)
def _loud_afterwards() -> Iterator[None]:
    yield
    IS_QUIET.set(False)


def test_a_run_prints_its_leaderboard_as_json_and_the_rest_on_standard_error(
    home: Path, finished_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_home, home)
    assert asdbench(*RUN, "--json") == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert {row["system"] for row in rows} == {"baseline-mse", "baseline-maha"}
    assert "(2 already stored)" in printed.err
    assert "finished in" in printed.err
    assert asdbench("leaderboard", "--data", "demo", "--json") == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert asdbench(*RUN, "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.out.lstrip().startswith("Leaderboard of demo")
    assert "finished in" not in printed.out
    assert printed.err == ""
    assert asdbench(*RUN, "--quiet", "--json") == 0
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == (rows, "")


def test_a_registration_is_silent_or_json(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny(tmp_path / "recordings", machine_types=("fan",))
    assert asdbench("data", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert asdbench("data", "add", "mine", str(folder), "-q") == 0
    assert capsys.readouterr() == ("", "")
    assert asdbench("data", "add", "mine", str(folder), "--json") == 0
    printed = capsys.readouterr()
    described = json.loads(printed.out)
    assert (described["name"], described["machine_types"]) == ("mine", ["fan"])
    assert printed.err == ""
    assert asdbench("data", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [described]
    assert asdbench("data", "info", "mine", "-q") == 0
    assert "32 clips in" in capsys.readouterr().out


def test_systems_and_settings_are_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asdbench("systems", "--json") == 0
    assert "baseline-mse" in [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert asdbench("systems", "baseline-mse", "--json") == 0
    assert "epochs" in [row["setting"] for row in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leaderboard", "--data", "tiny", "--json", "--format", "csv"), "--json and --format csv exclude"),
        (("compare", "a", "b", "--data", "tiny", "--json", "--format", "markdown"), "--json and --format"),
        (("leaderboard", "--data", "tiny", "-q", "-v"), "--quiet and --verbose exclude each other"),
        (("leaderboard", "--data", "tiny", "--top", "0"), "--top 0 is too small"),
        (("leaderboard", "--data", "tiny", "--systems", "baseline-mze"), "did you mean 'baseline-mse'"),
        (("leaderboard", "--data", "tiny", "--preset", "fats"), "did you mean 'fast'"),
    ],
)
def test_options_that_contradict_each_other_are_bad_input(
    tiny: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert asdbench(*arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


def commands(parent: App) -> Iterator[App]:
    for name in parent:
        if not name.startswith("-"):
            yield parent[name]
            yield from commands(parent[name])


def test_every_command_with_a_format_has_json_too() -> None:
    options = {
        " ".join(command.name): {
            name for argument in command.assemble_argument_collection() for name in argument.names
        }
        for command in commands(app)
        if command.default_command is not None
    }
    with_format = {name for name, names in options.items() if "--format" in names}
    assert {"leaderboard", "compare", "status", "evaluate"} <= with_format
    assert {name for name in with_format if "--json" not in options[name]} == set()
    assert {"run", "tune", "fuse"} <= {name for name, names in options.items() if "--json" in names}


def test_quiet_silences_messages_and_not_results(capsys: pytest.CaptureFixture[str]) -> None:
    IS_QUIET.set(True)
    print_line("a message")
    message_console(stderr=True).print("progress")
    print_result("a result")
    assert capsys.readouterr() == ("a result\n", "")
    IS_QUIET.set(False)
    print_line("a message", stderr=True)
    assert capsys.readouterr() == ("", "a message\n")


def test_json_is_a_format() -> None:
    assert format_of("table", json=True) == format_of("json", json=True) == "json"
    assert format_of("csv", json=False) == "csv"
    with pytest.raises(InputError, match="exclude each other"):
        format_of("csv", json=True)
