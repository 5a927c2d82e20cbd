"""Weight studies of a fusion search as the trials of one Ray Tune experiment.

A trial is a whole study: all machine types, or all but one. It calls the function that ``asdbench fuse``
calls in its own process, so the results are equal to the bit; the cluster only runs the studies in parallel.
This module does not know what a study does: the driver passes the function.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import TypeVar

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C ends the run, not only the experiment
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune

_MAX_RESTARTS = 20  # of a trial whose process dies, for example with its node

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def run_weight_studies(
    run_study: Callable[[str | None], Result], held_out: Sequence[str | None]
) -> list[Result]:
    """Run a weight study for each element of ``held_out`` on the connected cluster.

    Parameters
    ----------
    run_study
        Runs one study, given the machine type that it leaves out; it is sent to the cluster.
    held_out
        The machine type that each study leaves out; ``None`` for the study of all.

    Returns
    -------
    list
        What ``run_study`` returned, in the order of ``held_out``.
    """
    n_parallel = max(1, min(len(held_out), int(ray.cluster_resources().get("CPU", 1))))  # type: ignore[no-untyped-call]
    logger.info("running %d weight studies on Ray, %d at a time", len(held_out), n_parallel)
    # The run's workers hold the CPUs while they wait for tasks, so a trial that needed one would never start.
    trainable = tune.with_resources(
        tune.with_parameters(_trial, run_study=run_study),
        tune.PlacementGroupFactory([{"memory": 1 << 20}]),
    )
    with tempfile.TemporaryDirectory(prefix="asdbench-weights-", ignore_cleanup_errors=True) as scratch:
        trials = tune.Tuner(
            trainable,
            param_space={
                "index": tune.grid_search(list(range(len(held_out)))),
                "held_out": tune.sample_from(lambda config: held_out[config["index"]]),
            },
            tune_config=tune.TuneConfig(max_concurrent_trials=n_parallel, reuse_actors=True),
            run_config=tune.RunConfig(
                name="weights",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=_MAX_RESTARTS),
            ),
        ).fit()
    for error in trials.errors:  # lost with its process more often than it may be restarted
        raise error
    results: list[Result | None] = [None] * len(held_out)
    for trial in (trials[position] for position in range(len(trials))):
        assert trial.metrics is not None
        if (raised := trial.metrics["raised"]) is not None:
            raise raised
        results[trial.metrics["index"]] = trial.metrics["result"]
    return results  # type: ignore[return-value]  # each index has its trial


def _trial(config: dict[str, object], *, run_study: Callable[[object], object]) -> None:
    """Run one study and report what it returns or raises, which Tune hands back as it is.

    An exception is reported because the same study would raise it again after a restart.
    """
    result, raised = None, None
    try:
        result = run_study(config["held_out"])
    except Exception as error:
        raised = error
    tune.report({"index": config["index"], "result": result, "raised": raised})
