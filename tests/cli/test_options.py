"""Kinds of parameters and groups of options."""

import pytest

from asdbench.cli.options import ClusterOptions, RunOptions, SearchOptions

QUICK = ("--local", "--set", "epochs=2", "hidden=8")


def test_the_thresholds_offered_are_those_that_there_are() -> None:
    from typing import get_args

    from asdbench.cli.options import Threshold
    from asdbench.metrics import DEFAULT_THRESHOLD, THRESHOLDS

    assert set(get_args(Threshold)) == set(THRESHOLDS)
    assert get_args(Threshold)[0] == DEFAULT_THRESHOLD == "empirical"


def test_a_request_has_all_options_of_a_run() -> None:
    options = RunOptions((0, 2), ("fan",), "dev", ("epochs=2", "hidden=8"), "fast", "other data")
    assert options.to_request(["baseline-mse"], "tiny").command() == (
        "asdbench run baseline-mse --data tiny --machines fan --subset dev --seeds 0 2 --preset fast "
        "--pseudo-anomalies-from 'other data' --set epochs=2 hidden=8"
    )


def test_a_cluster_is_named_by_option_environment_or_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ClusterOptions().to_execution(local=False).address == "local"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert ClusterOptions().to_execution(local=False).address == "10.0.0.1:6379"
    assert ClusterOptions(address="local").to_execution(local=False).address == "local"


def test_a_search_takes_its_options() -> None:
    search = SearchOptions("scoring", ("epochs",), "leave-one-type-out", 7).to_search(5)
    expected = (5, "scoring", ("epochs",), "leave-one-type-out", 7)
    assert (search.trials, search.max_cost, search.only_settings, search.protocol, search.seed) == expected
