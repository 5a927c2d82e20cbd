"""The functions that Ray Tune's trials run; neither needs a CPU of its own.

They import nothing heavy until they need it. ``follow`` waits for scores: the driver submits the trial's
works, judges them and puts the scores on the board. ``weigh`` judges fusion weights, which takes no model.
"""

from typing import Any

import ray
from ray import tune


def follow(config: dict[str, Any], *, board: Any) -> None:
    """Report the score of each rung as soon as it is known."""
    trial = tune.get_context().get_trial_id()
    for rung in range(config["rungs"]):
        score = ray.get(board.rung.remote(trial, rung))
        if score is None:
            return
        tune.report({"score": score, "types": rung + 1})


def weigh(config: dict[str, Any], *, problem: Any, batch: int, seed: int) -> None:
    """Report the best of a batch of weights, without the machine type that the study leaves out."""
    import numpy as np

    from asdbench.search.fusion import evaluate_batch

    found = evaluate_batch(
        problem,
        config["parameters"],
        batch=batch,
        generator=np.random.default_rng([seed, config["number"]]),
        types=[name for name in problem.machine_types if name != config["course"]],
    )
    tune.report(
        {
            "score": found.score,
            "types": 1,
            "weights": list(found.weights),
            "choice": list(found.choice.items()),  # Tune would flatten a dict
            "evaluations": found.evaluations,
        }
    )
