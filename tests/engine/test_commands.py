"""Commands that messages advise can be pasted into a shell."""

import shlex

from asdbench.engine.commands import fuse_command, run_command


def test_a_run_carries_all_that_its_results_depend_on() -> None:
    command = run_command(
        ["multitask-mel", "baseline-mse"],
        "my data",
        seeds=[0, 2],
        machines=["fan"],
        subset="dev",
        settings={"members": ("a", "b"), "bias": True, "clip": None},
        preset="fast",
        pseudo_anomaly_data="other's",
    )
    assert shlex.split(command) == [
        *("asdbench", "run", "multitask-mel", "baseline-mse", "--data", "my data"),
        *("--machines", "fan", "--subset", "dev", "--seeds", "0", "2", "--preset", "fast"),
        *("--pseudo-anomalies-from", "other's", "--set", "members=a,b", "bias=true", "clip=none"),
    ]


def test_what_is_not_given_is_left_out() -> None:
    assert run_command(["baseline-mse"], "demo") == "asdbench run baseline-mse --data demo"


def test_a_fusion_names_its_ensemble_and_members() -> None:
    command = fuse_command("ensemble", ["a", "b"], "demo", seeds=[1], settings={"a.steps": 3})
    assert command == "asdbench fuse a b --data demo --ensemble ensemble --seeds 1 --set a.steps=3"
