"""Runs return typed results; what fails is in them."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

import asdbench
from asdbench import registry
from asdbench.registry import SystemSource

SETTINGS = {"epochs": 2, "hidden": 8}


@pytest.fixture
def home(finished_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the data home with a finished run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(finished_home, tmp_path / "home"))


def test_a_finished_run_is_not_repeated_and_returns_its_leaderboard(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = {path: path.stat().st_mtime_ns for path in (home / "jobs" / "trainings").rglob("*.pt")}
    result = asdbench.run("baseline-mse", data="demo", settings=SETTINGS, local=True, home=home)
    assert {path: path.stat().st_mtime_ns for path in (home / "jobs" / "trainings").rglob("*.pt")} == trained
    assert result.ok
    assert result.leaderboards == (result.leaderboard,)
    assert result.leaderboard == asdbench.leaderboard("demo", subset="dev", home=home)
    assert list(result.rows) == list(result.leaderboard.rows)
    assert 0 < result.duration_s < 300
    assert "Leaderboard of demo" in str(result)
    assert capsys.readouterr() == ("", "")  # quiet outside a terminal


def test_progress_goes_to_the_console_that_is_given(home: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    arguments = {"data": "demo", "machines": "fan", "local": True, "home": home, "progress": console}
    result = asdbench.run("baseline-mse", settings={**SETTINGS, "epochs": 1}, **arguments)  # type: ignore[arg-type]
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 job, 1 training (0 already stored)" in shown
    assert "done 1/1" in shown
    assert "Leaderboard" not in shown
    row = next(row for row in result.rows if row["settings"]["epochs"] == 1)
    assert (row["machine_types_done"], row["complete"]) == (["fan"], False)


def test_what_fails_is_in_the_result(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing.py").write_text(
        "from systems.baseline_mse import BaselineMse\n\n\n"
        "class Failing(BaselineMse):\n"
        '    """Fails."""\n\n'
        "    def forward(self, batch, update, progress):\n"
        "        raise RuntimeError('the layer is on fire')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = registry._sources()
    place = SystemSource("failing", None, "failing.py")
    monkeypatch.setattr(registry, "_sources", lambda: {**sources, "failing": [place]})
    result = asdbench.run(
        ["failing", "baseline-mse"], data="demo", machines="fan", settings=SETTINGS, local=True, home=home
    )
    assert not result.ok
    (failure,) = result.failures
    assert (failure.label, failure.bad_input) == ("fan failing seed 0", False)
    assert "the layer is on fire" in failure.message
    assert {row["system"] for row in result.rows} == {"baseline-mse", "baseline-maha"}
    assert "failed: fan failing seed 0" in str(result)
    assert "the layer is on fire" in result._repr_html_()
    alone = asdbench.run("failing", data="demo", machines="fan", settings=SETTINGS, local=True, home=home)
    with pytest.raises(asdbench.InputError, match="could be evaluated: fan failing seed 0: "):
        _ = alone.leaderboard


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"systems": "baseline-mze"}, "did you mean 'baseline-mse'"),
        ({"settings": {"epochs": 0}}, "epochs=0 is below the minimum"),
        ({"seeds": [-1]}, "seed -1 is negative"),
        ({"preset": "demmo"}, "did you mean 'demo'"),
        (
            {"cluster": asdbench.Cluster(address="10.0.0.1:6379")},
            "--local runs in this process and",
        ),
        ({"cluster": asdbench.Cluster(workers=2)}, "--local runs in one process"),
        ({"cluster": asdbench.Cluster(checkpoint_epochs=0)}, "give at least 1"),
        (
            {"cluster": asdbench.Cluster(compile="on")},
            "--compile on is not known; give auto, always or never",
        ),  # type: ignore[arg-type]
    ],
)
def test_bad_input_raises(finished_home: Path, arguments: dict[str, object], message: str) -> None:
    call = {"systems": "baseline-mse", "data": "demo", "local": True, "home": finished_home} | arguments
    with pytest.raises(asdbench.InputError) as error:
        asdbench.run(**call)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_cluster_is_named_by_argument_environment_or_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert asdbench.Cluster().to_execution(local=False).address == "local"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert asdbench.Cluster().to_execution(local=False).address == "10.0.0.1:6379"
    assert asdbench.Cluster(address="local").to_execution(local=False).address == "local"


def test_a_search_takes_its_options(finished_home: Path) -> None:
    call = {"data": "demo", "trials": 2, "home": finished_home}
    for options, message in (
        ({"only_settings": "epoch"}, "did you mean 'epochs'"),
        ({"max_cost": "fusion"}, "no setting to search"),
        ({"protocol": "leave-one-out"}, "leave-one-type-out"),
        ({"search_seed": -1}, "--search-seed -1 is negative"),
        ({"subset": "eval"}, "no clips in the subset eval"),
    ):
        with pytest.raises(asdbench.InputError) as error:
            asdbench.tune("baseline-mse", **call, **options)  # type: ignore[arg-type]
        assert message in str(error.value)


def test_variants_are_fused_and_run_as_an_ensemble(home: Path) -> None:
    members = ("baseline-maha", "baseline-maha@maha_mode=per_frame")
    result = asdbench.fuse(members, data="demo", settings=SETTINGS, evaluations=10, home=home)
    assert tuple(result.weights) == members
    assert f"members={','.join(members)}" in result.command
    settings = SETTINGS | {"members": members, "weights": list(result.weights.values())}
    run = asdbench.run(["ensemble"], data="demo", settings=settings, local=True, home=home)
    (fused,) = [row["official_score"] for row in result.rows if row["tuned"]]
    assert fused in [row["official_score"] for row in run.rows if not row["tuned"]]


def test_fused_weights_add_up_to_one_and_are_marked(home: Path) -> None:
    result = asdbench.fuse(
        ["baseline-mse", "baseline-maha"], data="demo", settings=SETTINGS, evaluations=30, home=home
    )
    assert result.weights.keys() == {"baseline-mse", "baseline-maha"}
    assert sum(result.weights.values()) == pytest.approx(1)
    (row,) = [row for row in result.rows if row["tuned"]]
    assert (row["system"], row["tuned"]["weight_vectors"]) == ("ensemble", 30)
    assert result.command.startswith("asdbench run ensemble --data demo")
    assert result.command in str(result)
    assert "Weights of ensemble" in result.to_markdown()
