import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from asdbench.errors import InputError
from asdbench.metrics import auc, partial_auc

RNG_SEED = 20230602


def random_sections(count):
    """Yield scores, many of them tied, with labels of both classes."""
    rng = np.random.default_rng(RNG_SEED)
    for _ in range(count):
        clips = int(rng.integers(2, 60))
        distinct = int(rng.integers(1, 40))
        scores = rng.integers(0, distinct, clips) / 7 - 2
        anomalous = rng.random(clips) < rng.uniform(0.1, 0.9)
        anomalous[:2] = True, False
        yield scores, anomalous


def counted_pairs(scores, anomalous):
    pairs = [(a > n) + (a == n) / 2 for a in scores[anomalous] for n in scores[~anomalous]]
    return sum(pairs) / len(pairs)


def walked_curve(scores, anomalous, max_fpr):
    """Integrate the ROC curve trapezium by trapezium, cut at ``max_fpr``, and standardize."""
    points = [
        ((scores[~anomalous] >= s).mean(), (scores[anomalous] >= s).mean()) for s in np.unique(scores)[::-1]
    ]
    area, last_x, last_y = 0.0, 0.0, 0.0
    for x, y in points:
        if x > last_x:
            end = min(x, max_fpr)
            if end > last_x:
                end_y = last_y + (y - last_y) * (end - last_x) / (x - last_x)
                area += (end - last_x) * (last_y + end_y) / 2
        last_x, last_y = x, y
    return 0.5 * (1 + (area - max_fpr**2 / 2) / (max_fpr - max_fpr**2 / 2))


def test_auc_equals_counted_pairs_and_sklearn():
    for scores, anomalous in random_sections(300):
        value = auc(scores, anomalous)
        assert value == pytest.approx(counted_pairs(scores, anomalous), abs=1e-12)
        assert value == pytest.approx(roc_auc_score(anomalous, scores), abs=1e-12)


@pytest.mark.parametrize("max_fpr", [0.01, 0.1, 1 / 3, 0.9, 1.0])
def test_partial_auc_equals_a_walk_along_the_curve_and_sklearn(max_fpr):
    for scores, anomalous in random_sections(150):
        value = partial_auc(scores, anomalous, max_fpr=max_fpr)
        assert value == pytest.approx(walked_curve(scores, anomalous, max_fpr), abs=1e-12)
        assert value == pytest.approx(roc_auc_score(anomalous, scores, max_fpr=max_fpr), abs=1e-12)


def test_partial_auc_takes_a_tenth_by_default():
    scores, anomalous = next(random_sections(1))
    assert partial_auc(scores, anomalous) == partial_auc(scores, anomalous, max_fpr=0.1)
    assert partial_auc(scores, anomalous) != partial_auc(scores, anomalous, max_fpr=0.2)


def test_perfect_reversed_and_constant_scores():
    anomalous = np.repeat([False, True], 100)
    scores = np.arange(200)
    assert (auc(scores, anomalous), partial_auc(scores, anomalous)) == (1.0, pytest.approx(1.0, abs=1e-15))
    assert auc(-scores, anomalous) == 0.0
    assert partial_auc(-scores, anomalous) == pytest.approx(9 / 19, abs=1e-15)  # the floor, 0.47368
    assert auc(np.zeros(200), anomalous) == 0.5
    assert partial_auc(np.zeros(200), anomalous) == pytest.approx(0.5, abs=1e-15)


def test_random_scores_give_one_half_in_the_mean():
    rng = np.random.default_rng(RNG_SEED)
    anomalous = np.repeat([False, True], 100)
    values = [[m(rng.normal(size=200), anomalous) for m in (auc, partial_auc)] for _ in range(1000)]
    # Standard errors of the means are about 0.0013 and 0.0009.
    assert np.mean(values, axis=0) == pytest.approx([0.5, 0.5], abs=0.004)


@pytest.mark.parametrize(
    "mapping",
    [lambda s: 3.5 * s - 11, np.exp, lambda s: np.arctan(s / 3), lambda s: s**3],
    ids=["affine", "exp", "arctan", "cube"],
)
def test_only_the_order_of_scores_counts(mapping):
    for scores, anomalous in random_sections(50):
        assert auc(mapping(scores), anomalous) == auc(scores, anomalous)
        assert partial_auc(mapping(scores), anomalous) == partial_auc(scores, anomalous)


def test_the_order_of_clips_does_not_count():
    rng = np.random.default_rng(RNG_SEED)
    for scores, anomalous in random_sections(50):
        order = rng.permutation(scores.size)
        assert auc(scores[order], anomalous[order]) == pytest.approx(auc(scores, anomalous), abs=1e-14)
        shuffled = partial_auc(scores[order], anomalous[order])
        assert shuffled == pytest.approx(partial_auc(scores, anomalous), abs=1e-14)


def test_reversed_scores_give_the_complement():
    for scores, anomalous in random_sections(50):
        assert auc(-scores, anomalous) == pytest.approx(1 - auc(scores, anomalous), abs=1e-14)


def test_lists_serve_as_arrays():
    assert auc([0.1, 0.7, 0.4], [False, True, False]) == 1.0


@pytest.mark.parametrize("metric", [auc, partial_auc])
@pytest.mark.parametrize(
    ("scores", "anomalous", "message"),
    [
        ([0.0, 1.0], [False, False], "no anomaly among the 2 clips"),
        ([0.0, 1.0], [True, True], "no normal clip among the 2 clips"),
        ([0.0, np.nan], [False, True], "score of clip 1 is nan"),
        ([-np.inf, 0.0], [False, True], "score of clip 0 is -inf"),
        ([0.0, 1.0, 2.0], [False, True], r"anomalous has shape \(2,\) for 3 clips"),
        ([[0.0, 1.0]], [False, True], r"scores have shape \(1, 2\)"),
        ([], [], r"scores have shape \(0,\)"),
        ([0.0, 1.0], [0, 1], "anomalous holds int64 values; give booleans"),
    ],
)
def test_input_that_has_no_auc_is_refused(metric, scores, anomalous, message):
    with pytest.raises(InputError, match=message):
        metric(scores, anomalous)


@pytest.mark.parametrize("max_fpr", [0.0, -0.1, 1.5, 10, np.nan])
def test_a_false_positive_rate_outside_its_range_is_refused(max_fpr):
    with pytest.raises(InputError, match=f"max_fpr is {max_fpr}"):
        partial_auc([0.0, 1.0], [False, True], max_fpr=max_fpr)
