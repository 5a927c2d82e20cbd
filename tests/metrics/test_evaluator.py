import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from asdbench.errors import InputError
from asdbench.metrics.evaluator import jackknife, roc_area


def clips(rng, *, count, distinct):
    scores = rng.choice(rng.normal(size=distinct), count)
    anomalous = rng.random(count) < rng.uniform(0.2, 0.8)
    anomalous[:4] = True, False, True, False
    return scores, anomalous


@pytest.mark.parametrize("max_fpr", [1.0, 0.1, 0.33])
def test_areas_have_every_digit_of_scikit_learns(max_fpr):
    rng = np.random.default_rng(1)
    for distinct in (1, 2, 3, 10, 50, 10_000):
        for count in (4, 7, 50, 200):
            for _ in range(5):
                scores, anomalous = clips(rng, count=count, distinct=distinct)
                expected = roc_auc_score(anomalous, scores, max_fpr=None if max_fpr == 1 else max_fpr)
                assert roc_area(scores, anomalous, max_fpr=max_fpr) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_and_inverted_scores_have_every_digit_too(sign):
    anomalous = np.arange(200) % 2 == 0
    scores = sign * (anomalous + np.linspace(0, 0.5, 200))
    assert roc_area(scores, anomalous) == roc_auc_score(anomalous, scores) == (sign + 1) / 2
    assert roc_area(scores, anomalous, max_fpr=0.1) == roc_auc_score(anomalous, scores, max_fpr=0.1)


@pytest.mark.parametrize("distinct", [1, 3, 12, 10_000])
@pytest.mark.parametrize("max_fpr", [1.0, 0.1])
def test_the_jackknife_has_every_digit_of_the_evaluators_formula(distinct, max_fpr):
    scores, anomalous = clips(np.random.default_rng(2), count=41, distinct=distinct)
    n = len(scores)

    def area(keep):
        return roc_auc_score(
            anomalous[keep].astype(float), scores[keep], max_fpr=None if max_fpr == 1 else max_fpr
        )

    whole = area(list(range(n)))
    without = [area([j for j in range(n) if j != i]) for i in range(n)]
    spread = math.sqrt(np.sum([(value - np.mean(without)) ** 2 for value in without]) / (n * (n - 1)))
    expected = (
        np.mean([n * whole - (n - 1) * value for value in without]),
        np.abs(stats.t.ppf((1 - 0.95) / 2, n - 1)) * spread,
    )
    assert jackknife(scores, anomalous, max_fpr=max_fpr) == expected


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(InputError, match="score of clip 1 is nan"):
        roc_area([0.0, np.nan], [True, False])
    with pytest.raises(InputError, match="max_fpr is 0"):
        roc_area([0.0, 1.0], [True, False], max_fpr=0)
    with pytest.raises(InputError, match="1 anomalies and 2 normal clips; leaving out each clip"):
        jackknife([0.0, 1.0, 2.0], [True, False, False])
