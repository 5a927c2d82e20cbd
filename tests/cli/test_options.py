"""Kinds of parameters and groups of options."""

import inspect

from asdbench.api.reports import compare, scores
from asdbench.api.runs import Cluster, fuse, run
from asdbench.cli.options import ClusterOptions, RunOptions, StoredOptions

QUICK = ("--local", "--set", "epochs=2", "hidden=8")


def test_the_thresholds_offered_are_those_that_there_are() -> None:
    from typing import get_args

    from asdbench.cli.options import Threshold
    from asdbench.metrics import DEFAULT_THRESHOLD, THRESHOLDS

    assert set(get_args(Threshold)) == set(THRESHOLDS)
    assert get_args(Threshold)[0] == DEFAULT_THRESHOLD == "empirical"


def test_a_run_takes_all_of_its_options() -> None:
    options = RunOptions((0, 2), ("fan",), "dev", ("epochs=2", "hidden=8"), "fast", "other data")
    assert options.to_arguments() == {
        "seeds": (0, 2),
        "machines": ("fan",),
        "subset": "dev",
        "settings": {"epochs": "2", "hidden": "8"},
        "preset": "fast",
        "pseudo_anomalies_from": "other data",
    }
    assert options.to_arguments().keys() <= inspect.signature(run).parameters.keys()


def test_a_report_takes_the_options_of_the_run() -> None:
    assert StoredOptions(("epochs=2",), "fast", "other").to_arguments() == {
        "settings": {"epochs": "2"},
        "preset": "fast",
        "pseudo_anomalies_from": "other",
    }
    for function in (compare, scores, fuse):
        assert StoredOptions().to_arguments().keys() <= inspect.signature(function).parameters.keys()


def test_a_cluster_takes_all_of_its_options() -> None:
    options = ClusterOptions(4, 2, 3, "10.0.0.1:6379", 3, True, "always", "s3://bucket")
    assert options.to_cluster() == Cluster(4, 2, 3, "10.0.0.1:6379", 3, True, "always")
