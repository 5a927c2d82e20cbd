"""AUCs far below chance: an effect of swapped labels, not of noise or of few clips."""

import numpy as np
import pytest

from asdbench.metrics import OFFICIAL, WITHOUT_DOMAINS, section_metrics
from asdbench.metrics.chance import aucs_far_below_chance, is_far_below_chance


@pytest.mark.parametrize(
    ("auc", "n_normal", "n_anomalous", "expected"),
    [
        (0.08, 50, 50, True),
        (0.24, 100, 100, True),
        (0.26, 5000, 5000, False),  # a shift of domains does that
        (0.24, 25, 25, False),
        (0.0, 2, 2, False),
        (0.0, 11, 11, False),
        (0.0, 12, 12, True),
        (0.92, 50, 50, False),
    ],
)
def test_the_limit_depends_on_the_number_of_clips(
    auc: float, n_normal: int, n_anomalous: int, expected: bool
) -> None:
    assert is_far_below_chance(auc, n_normal=n_normal, n_anomalous=n_anomalous) is expected


def test_scores_that_say_nothing_are_never_far_below_chance() -> None:
    rng = np.random.default_rng(0)
    for clips in (8, 16, 40, 200):
        anomalous, target = np.arange(clips) % 2 == 1, np.arange(clips) % 4 > 1
        for _ in range(500):
            metrics = section_metrics(rng.random(clips), anomalous, target, rule=OFFICIAL)
            assert aucs_far_below_chance(metrics, anomalous, target, rule=OFFICIAL) == []


@pytest.mark.parametrize(
    ("rule", "names"), [(OFFICIAL, ["auc_source", "auc_target"]), (WITHOUT_DOMAINS, ["auc"])]
)
def test_swapped_labels_are_seen(rule: object, names: list[str]) -> None:
    anomalous, target = np.arange(200) % 2 == 1, np.arange(200) % 4 > 1
    scores = np.random.default_rng(0).normal(anomalous, 0.5)
    swapped = section_metrics(scores, ~anomalous, target, rule=rule)
    assert aucs_far_below_chance(swapped, ~anomalous, target, rule=rule) == names
    right = section_metrics(scores, anomalous, target, rule=rule)
    assert aucs_far_below_chance(right, anomalous, target, rule=rule) == []
