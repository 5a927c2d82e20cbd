"""The scripts in sweeps/."""

from pathlib import Path

import pytest

from asdbench import registry
from asdbench.cli.run import usable_systems
from asdbench.cli.sweep import all_types
from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.testing import write_tiny
from tests.commands import asdbench

QUICK = ("--local", "--set", "epochs=2", "hidden=8")


def sweep(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        all_types(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.usefixtures("broken_plugin")
def test_a_sweep_names_a_broken_plugin_and_missing_weights_and_runs_the_others(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("steps=2", "cvae_steps=1", "adversarial_steps=1", "width=16", "ffn=16", "blocks=1")
    assert sweep("--data", tiny, "--machines", "fan", *QUICK, *small, "batch_size=16") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "skipped: system 'theirs' (their_plugin.py) cannot be imported" in said
    assert "skipped: encoder-knn, since the weights 'beats-iter3' are missing" in said
    usable = set(usable_systems())
    assert usable == set(registry.names()) - {"theirs", "encoder-knn", "encoder-lora"}
    assert f"{len(usable - {'ensemble'})} jobs, " in said  # an ensemble's is those of its members
    assert sweep("--data", tiny, "--systems", "theirs", *QUICK) == 2


def test_a_sweep_takes_the_options_of_a_run(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--systems", "baseline-mse", "--jobs-per-gpu", "auto", "--checkpoint-epochs", "2", "--seeds", "3")
    assert sweep("--data", tiny, "--machines", "fan", *more, *QUICK) == 0
    assert "1 job, 1 training" in " ".join(capsys.readouterr().out.split())
    assert sweep("--data", tiny, "--seeds", "1.5") == 2
    assert "'1.5' is not a whole number" in capsys.readouterr().err


def test_a_demo_takes_the_embedded_data_set_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_tiny(tmp_path / "recordings")
    catalog.add(Workspace.from_environment(), "demo", folder)
    assert sweep("--systems", "baseline-mse", "--preset", "demo", *QUICK) == 2
    said = capsys.readouterr().err
    assert f"the data set 'demo' is the folder '{folder}' and not the embedded one" in said
    assert len(said.strip().splitlines()) == 1
    assert asdbench("data", "demo", "--clips-per-type", "20") == 0
    assert sweep("--systems", "baseline-mse", "--machines", "fan", "--preset", "demo", *QUICK) == 0
    assert "Leaderboard of demo" in capsys.readouterr().out


def test_a_sweep_without_data_takes_all_that_are_registered(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        catalog.add(
            Workspace.from_environment(),
            name,
            write_tiny(tmp_path / name, seed=len(name), machine_types=("fan",)),
        )
    assert sweep("--systems", "baseline-mse", *QUICK) == 0
    said = capsys.readouterr().out
    assert "Leaderboard of one" in said
    assert "Leaderboard of two" in said
