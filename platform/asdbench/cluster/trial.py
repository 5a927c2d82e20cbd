"""The function that the trials of a search over settings run; it needs no CPU of its own.

It waits for scores: the driver submits the trial's tasks, evaluates them and puts the scores on the board.
"""

from typing import TYPE_CHECKING, TypedDict

import ray
from ray import tune

if TYPE_CHECKING:
    from asdbench.cluster.board import BoardHandle


class TrialConfig(TypedDict):
    """What a trial is started with."""

    course: str
    number: int
    rungs: int
    parameters: dict[str, object]


def follow(config: TrialConfig, *, board: "BoardHandle") -> None:
    """Report the score of each rung as soon as it is known."""
    trial = tune.get_context().get_trial_id()
    for rung in range(config["rungs"]):
        score = ray.get(board.rung.remote(trial, rung))
        if score is None:
            return
        tune.report({"score": score, "types": rung + 1})
