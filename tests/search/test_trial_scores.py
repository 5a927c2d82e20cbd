"""The jobs of a trial and the mean of its scores."""

import pytest

from asdbench.metrics import OFFICIAL, official_score
from asdbench.search.trial_scores import mean_official_score

FAN, VALVE = (
    {"auc_source": 0.6, "auc_target": 0.5, "pauc": 0.55},
    {"auc_source": 0.9, "auc_target": 0.8, "pauc": 0.6},
)


def test_the_score_over_machine_types_is_the_mean_over_seeds() -> None:
    judged = [[[FAN], [VALVE]], [[VALVE], [VALVE]]]  # two machine types with two seeds and a section each
    scores = [official_score([FAN, VALVE], rule=OFFICIAL), official_score([VALVE, VALVE], rule=OFFICIAL)]
    assert mean_official_score(judged, rule=OFFICIAL) == pytest.approx(sum(scores) / 2)


def test_machine_types_with_different_seeds_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="longer than argument"):
        mean_official_score([[[FAN]], [[FAN], [VALVE]]], rule=OFFICIAL)
