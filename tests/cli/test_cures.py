"""Each command that a message advises is taken from the message and run, and the complaint is gone.

Not run here, since a test cannot: what to change outside of asdbench (free space on a disk, another network
address, a damaged file), and options whose value only the user knows, except with values that the test knows.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile
from cyclopts import App

from asdbench.cli.main import app, main
from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny

SETTINGS = ("--set", "epochs=2", "hidden=8")
PAIR = ("baseline-mse", "baseline-maha")
COMMAND = re.compile(r"""'(asdbench [^'"]*)'|"(asdbench [^"]*)"|: (asdbench run .*)""")


@dataclass(frozen=True)
class Case:
    """A command with a complaint, and whether it is given again after the cure or replaced by it."""

    command: Sequence[str]
    complaint: str
    placeholders: tuple[tuple[str, str], ...] = ()
    repeated: bool = True


SUBMISSION = ("submission", *PAIR, "--data", "tiny", "--team", "Team", "--output", "OUT", "--subset", "dev")
CASES = {
    "compare": Case(("compare", *PAIR, "--data", "tiny", "--seeds", "0", "1", *SETTINGS), "no results of"),
    "compare with a preset": Case(
        ("compare", *PAIR, "--data", "tiny", "--preset", "demo", *SETTINGS), "no results of"
    ),
    "compare with unused pseudo-anomalies": Case(
        ("compare", *PAIR, "--data", "tiny", "--pseudo-anomalies-from", "tiny", *SETTINGS), "no results of"
    ),
    "submission": Case((*SUBMISSION, "--seed", "3", *SETTINGS), "no scores of"),
    "fuse": Case(
        ("fuse", *PAIR, "--data", "tiny", "--seeds", "0", "1", "--evaluations", "20", *SETTINGS),
        "has no scores on",
    ),
    "tune an ensemble": Case(
        (
            "tune",
            "ensemble",
            "--trials",
            "2",
            "--data",
            "tiny",
            "--set",
            f"members={','.join(PAIR)}",
            *SETTINGS[1:],
        ),
        "is an ensemble and trains nothing",
        repeated=False,
    ),
    "tune without trials": Case(
        ("tune", "baseline-mse", "--data", "tiny", "--trials", "0", *SETTINGS),
        "must be at least 1",
        repeated=False,
    ),
    "tune without labels": Case(
        ("tune", "baseline-mse", "--data", "unlabeled", "--trials", "2", *SETTINGS),
        "only those may steer a search",
        repeated=False,
    ),
    "no clips of the subset": Case(
        ("run", "baseline-mse", "--data", "tiny", "--subset", "eval", "--machines", "fan", *SETTINGS),
        "there are no clips in the subset eval",
        repeated=False,
    ),
    "unused pseudo-anomalies": Case(
        ("run", "baseline-mse", "--data", "tiny", "--pseudo-anomalies-from", "tiny", *SETTINGS),
        "no system of this run takes pseudo-anomalies",
        repeated=False,
    ),
    "an empty leaderboard": Case(
        ("leaderboard", "--data", "tiny"), "no results", placeholders=(("SYSTEM", "baseline-mse"),)
    ),
    "changed recordings": Case(
        ("run", "baseline-mse", "--data", "changed", *SETTINGS), "changed or vanished"
    ),
    "a damaged registration": Case(
        ("data", "info", "damaged"), "is damaged", placeholders=(("FOLDER", "TINY"),)
    ),
    "an unknown data set": Case(
        ("data", "info", "new"), "no data set 'new'", placeholders=(("FOLDER", "TINY"),)
    ),
}


@pytest.fixture(scope="module")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests here: making its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mlflow_store: str) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store)
    monkeypatch.setenv("COLUMNS", "1000")
    workspace = Workspace.from_environment()
    tiny = write_tiny(tmp_path / "tiny folder", test_clips_per_cell=3)
    catalog.add(workspace, "tiny", tiny)
    changed = write_tiny(tmp_path / "changed folder", machine_types=("fan",))
    catalog.add(workspace, "changed", changed)
    clip = sorted((changed / "fan" / "train").glob("*.wav"))[0]
    samples, rate = soundfile.read(clip)
    soundfile.write(clip, samples[:-100], rate)
    unlabeled = write_tiny(tmp_path / "unlabeled folder", machine_types=("fan",))
    for index, clip in enumerate(sorted((unlabeled / "fan" / "test").glob("*.wav"))):
        clip.rename(clip.with_name(f"section_00_{index:04d}.wav"))
    table = unlabeled / "fan" / "attributes_00.csv"
    table.write_text("\n".join(r for r in table.read_text().splitlines() if "/test/" not in r) + "\n")
    catalog.add(workspace, "unlabeled", unlabeled)
    catalog.add(workspace, "damaged", changed)
    (workspace.home / "data" / "damaged" / "dataset.json").write_text("{")
    return tmp_path


def asdbench(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a command in this process; returns its exit code and all that it printed."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    printed = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, printed.out + printed.err


def advised(message: str, placeholders: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Return the arguments of the command that a message advises."""
    match = COMMAND.search(message)
    assert match, message
    words = shlex.split(next(group for group in match.groups() if group))[1:]
    replaced = dict(placeholders)
    words = [replaced.get(word, word) for word in words]
    return [*words, *SETTINGS] if placeholders and words[0] == "run" else words


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_advised_command_cures(case: Case, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {"OUT": str(home / "teams"), "TINY": str(home / "tiny folder")}
    command = [paths.get(word, word) for word in case.command]
    _, message = asdbench(command, capsys)
    assert case.complaint in message
    placeholders = [(name, paths.get(value, value)) for name, value in case.placeholders]
    cure = advised(message, placeholders)
    code, printed = asdbench([*cure, *(["--local"] if cure[0] == "run" else [])], capsys)
    if case.repeated:
        assert code == 0, printed
        code, printed = asdbench([*command, *(["--local"] if command[0] == "run" else [])], capsys)
    assert case.complaint not in printed
    if cure[0] == "fuse":  # which may need the scores of its members first
        assert asdbench([*advised(printed), "--local"], capsys)[0] == 0
        code, printed = asdbench([*cure, "--evaluations", "20"], capsys)
    assert code == 0, printed


def test_the_command_behind_fused_weights_runs_them(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fuse = ("fuse", *PAIR, "--data", "tiny", "--seeds", "0", "1", "--evaluations", "20", *SETTINGS)
    assert asdbench([*advised(asdbench(fuse, capsys)[1]), "--local"], capsys)[0] == 0
    code, printed = asdbench(fuse, capsys)
    assert code == 0
    line = next(line for line in printed.splitlines() if line.startswith("to run the ensemble"))
    command = advised(line)
    assert command[command.index("--seeds") : command.index("--set")] == ["--seeds", "0", "1"]
    code, printed = asdbench([*command, "--local"], capsys)
    assert code == 0
    assert "dev-tuned, 20 weight vectors" in printed


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (("run", "baseline-mse", "--data", "tiny", "--local", "--workers", "2"), ["--local", "--workers"]),
        (("run", "baseline-mse", "--data", "tiny", "--local", "--address", "x:1"), ["--local", "--address"]),
        (("fuse", *PAIR, "--data", "tiny", "--seeds"), ["--seeds"]),
        (("data", "get", "dcase2023", "--bad"), ["--bad"]),
    ],
)
def test_options_in_messages_exist(
    command: Sequence[str], options: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = asdbench(command, capsys)
    assert code == 2
    for option in options:
        assert option in message


def command_names(parent: App, *above: str) -> Iterator[tuple[str, ...]]:
    for name in parent:
        if name not in ("--help", "-h", "--version"):
            yield (*above, name)
            yield from command_names(parent[name], *above, name)


def test_every_option_that_a_message_names_is_an_option(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    helps = [asdbench([*names, "--help"], capsys)[1] for names in command_names(app)]
    assert len(helps) > 20
    known = {"--help", *re.findall(r"--[a-z][a-z-]+", "\n".join(helps))}
    foreign = {"--num-cpus", "--host", "--port", "--backend-store-uri", "--artifacts-destination"}
    foreign |= {"--experiment-id", "--error-unmatch", "--porcelain"}
    foreign |= {"--query-gpu", "--format", "--id"}  # of Ray, MLflow, git and nvidia-smi
    foreign |= {"--gpus-per-worker"}  # of an earlier version: a message says what has replaced it
    package = Path(catalog.__file__).parents[2]
    for path in sorted(package.rglob("*.py")):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", path.read_text()))
        is_css = "figures" in path.parts or path.name.startswith("html")  # whose variables look like options
        assert is_css or named <= known | foreign, path
