"""The command line: what a user types and reads."""

import subprocess
import sys
from pathlib import Path

import pytest

from asdbench.cli.sweep import all_types
from asdbench.testing import write_tiny
from tests.commands import asdbench

QUICK = ("--local", "--set", "epochs=2", "hidden=8")


def test_help_needs_no_heavy_module() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'polars', 'scipy', 'pyarrow'} & set(sys.modules)"
    program = f"import sys, asdbench.cli.main; assert not {heavy}, {heavy}"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "baseline-ms", "--data", "tiny"), "no system 'baseline-ms'; did you mean 'baseline-mse'?"),
        (("run", "baseline-mse", "--data", "tinny"), "no data set 'tinny'; did you mean 'tiny'?"),
        (
            ("run", "--data", "tiny"),
            "name at least one system; available: adacos, adversarial, baseline-maha",
        ),
        (("run", "baseline-mse", "--data", "tiny", "--machines", "vane"), "did you mean 'valve'?"),
        (("run", "baseline-mse", "--data", "tiny", "--set", "epoch=3"), "did you mean 'epochs'?"),
        (
            ("run", "baseline-mse", "--data", "tiny", "--set", "epochs=many"),
            "epochs='many' is not of type",
        ),
        (("run", "baseline-mse", "--data", "tiny", "--set", "epochs=0"), "epochs=0 is below the minimum"),
        (
            ("run", "baseline-mse", "--data", "tiny", "--set", "epochs"),
            "'epochs' is not of the form",
        ),
        (("run", "baseline-mse", "--data", "tiny", "--preset", "demmo"), "did you mean 'demo'?"),
        (("run", "baseline-mse", "--data", "tiny", "--seeds", "-1"), "seed -1 is negative"),
        (
            ("run", "baseline-mse", "--data", "tiny", "--local", "--workers", "2"),
            "--local runs in one",
        ),
        (
            ("run", "baseline-mse", "--data", "tiny", "--workers", "3", "--workers-per-type", "2"),
            "--workers 3 is not a multiple of --workers-per-type 2",
        ),
        (("run", "baseline-mse", "--data", "tiny", "--checkpoint-epochs", "0"), "give at least 1"),
        (("run", "baseline-mse", "--data", "tiny", "--sceds", "1"), "--sceds"),
        (("run", "baseline-mse", "--data", "tiny", "--seeds", "0", "1.5"), "--seeds: '1.5' is not a whole"),
        (("run", "baseline-mse", "--data", "tiny", "--workers", "2.5"), "--workers: '2.5' is not a whole"),
        (("run", "baseline-mse", "--data", "tiny", "--workers-per-type", "1.4"), "'1.4' is not a whole"),
        (("run", "baseline-mse", "--data", "tiny", "--jobs-per-gpu", "half"), "'half' is neither auto nor a"),
        (
            ("run", "baseline-mse", "--data", "tiny", "--jobs-per-gpu", "0"),
            "must be auto or a whole",
        ),
        (("run", "baseline-mse", "--data", "tiny", "--checkpoint-epochs", "1.5"), "'1.5' is not a whole"),
        (("data", "demo", "--clips-per-type", "20.4"), "--clips-per-type: '20.4' is not a whole"),
        (("data", "demo", "--seed", "0.6"), "--seed: '0.6' is not a whole"),
        (
            ("run", "baseline-mse", "--data", "tiny", "--local", "--address", "10.0.0.1:6379"),
            "--local runs in this process and --address 10.0.0.1:6379 on a cluster",
        ),
        (
            ("run", "baseline-mse", "--data", "tiny", "--set", "hidden=100000000"),
            "hidden=100000000 is above the maximum of",
        ),
        (("run", "baseline-mse"), "--data"),
        (("leaderboard", "--data", "nothing"), "no data set 'nothing'"),
        (("systems", "nothing"), "no system 'nothing'"),
        (("data", "info", "nothing"), "no data set 'nothing'"),
        (("data", "add", "b/d", "."), "'b/d' is not a valid data set name"),
        (("data", "add", "new", "/nowhere/at/all"), "/nowhere/at/all"),
        (("data", "demo", "--clips-per-type", "3"), "3"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tiny: str, home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(home.rglob("*"))
    assert asdbench(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert "Traceback" not in captured.out + captured.err
    assert not (home / "jobs").exists()
    assert [path for path in sorted(home.rglob("*")) if path.is_file()] == [p for p in before if p.is_file()]


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "demo", "--clips-per-type", "20"),
        ("data", "add", "new", "RECORDINGS"),
        ("features", "tiny"),
        ("run", "baseline-mse", "--data", "tiny", *QUICK),
        ("SWEEP", "--local"),
    ],
)
@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_home_that_cannot_be_written_is_one_sentence(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    place: str,
) -> None:
    folder = write_tiny(tmp_path / "recordings", machine_types=("fan",))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / place))
    words = [str(folder) if word == "RECORDINGS" else word for word in arguments]
    assert (sweep(*words[1:]) if words[0] == "SWEEP" else asdbench(*words)) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    assert "cannot write to the data home" in said
    assert "set ASDBENCH_HOME to another" in said


def sweep(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        all_types(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code
