import math
import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from asdbench.errors import InputError
from asdbench.metrics import (
    IN_DOMAIN,
    OFFICIAL,
    Rule,
    auc,
    decision_metrics,
    jackknife_half_width,
    official_half_width,
    partial_auc,
    section_half_widths,
    section_metrics,
)
from asdbench.metrics.intervals import leave_one_out


def random_clips(rng, *, clips, distinct):
    scores = rng.integers(0, distinct, clips) / 3
    anomalous = rng.random(clips) < rng.uniform(0.2, 0.8)
    anomalous[:4] = True, False, True, False
    return scores, anomalous


def naively_left_out(metric, scores, anomalous):
    kept = ~np.eye(scores.size, dtype=bool)
    return np.array([metric(scores[keep], anomalous[keep]) for keep in kept])


def evaluator_half_width(left_out, confidence=0.95):
    """The evaluator's formula, term by term."""
    n = len(left_out)
    squares = sum((value - np.mean(left_out)) ** 2 for value in left_out)
    return stats.t.ppf((1 + confidence) / 2, n - 1) * math.sqrt(squares / (n * (n - 1)))


@pytest.mark.parametrize("max_fpr", [0.05, 0.1, 0.5, 1.0])
def test_leaving_out_at_once_equals_leaving_out_one_by_one(max_fpr):
    rng = np.random.default_rng(1)
    for distinct in (1, 2, 5, 20, 1000):
        for clips in (4, 5, 13, 40):
            scores, anomalous = random_clips(rng, clips=clips, distinct=distinct)
            naive = naively_left_out(lambda s, a: partial_auc(s, a, max_fpr=max_fpr), scores, anomalous)
            assert leave_one_out(scores, anomalous, max_fpr=max_fpr) == pytest.approx(naive, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "max_fpr", "reference"),
    [
        ("auc", 0.1, lambda s, a: roc_auc_score(a, s)),
        ("pauc", 0.1, lambda s, a: roc_auc_score(a, s, max_fpr=0.1)),
        ("pauc", 0.3, lambda s, a: roc_auc_score(a, s, max_fpr=0.3)),
    ],
)
@pytest.mark.parametrize("confidence", [0.95, 0.5])
def test_half_width_is_that_of_the_evaluator(metric, max_fpr, reference, confidence):
    scores, anomalous = random_clips(np.random.default_rng(2), clips=60, distinct=25)
    expected = evaluator_half_width(naively_left_out(reference, scores, anomalous), confidence)
    width = jackknife_half_width(scores, anomalous, metric=metric, max_fpr=max_fpr, confidence=confidence)
    assert width == pytest.approx(expected, abs=1e-12)
    assert width > 0


def test_by_default_the_confidence_is_95_percent_and_the_false_positive_rate_a_tenth():
    clips = random_clips(np.random.default_rng(3), clips=60, distinct=25)
    assert jackknife_half_width(*clips, metric="pauc") == jackknife_half_width(
        *clips, metric="pauc", confidence=0.95, max_fpr=0.1
    )


def test_the_textbook_half_width_is_n_minus_1_times_the_evaluators():
    clips = random_clips(np.random.default_rng(4), clips=50, distinct=25)
    for metric in ("auc", "pauc"):
        textbook = jackknife_half_width(*clips, metric=metric, scale="textbook")
        assert textbook == pytest.approx(49 * jackknife_half_width(*clips, metric=metric), rel=1e-12)


def test_the_textbook_interval_covers_the_true_auc_and_the_evaluators_does_not():
    rng = np.random.default_rng(5)
    anomalous = np.repeat([False, True], 100)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    covered = {"textbook": 0, "evaluator": 0}
    for _ in range(400):
        scores = rng.normal(size=200) + anomalous
        error = abs(auc(scores, anomalous) - truth)
        for scale in covered:
            covered[scale] += error <= jackknife_half_width(scores, anomalous, metric="auc", scale=scale)
    assert 0.92 <= covered["textbook"] / 400 <= 0.98
    assert covered["evaluator"] / 400 < 0.1


def test_official_half_width_is_the_mean_over_auc_and_pauc_of_the_pool():
    scores, anomalous = random_clips(np.random.default_rng(6), clips=80, distinct=30)
    widths = [
        evaluator_half_width(naively_left_out(metric, scores, anomalous)) for metric in (auc, partial_auc)
    ]
    assert official_half_width(scores, anomalous) == pytest.approx(np.mean(widths), abs=1e-12)
    wide = [jackknife_half_width(scores, anomalous, metric=m, max_fpr=0.4) for m in ("auc", "pauc")]
    assert official_half_width(scores, anomalous, rule=Rule(max_fpr=0.4)) == pytest.approx(np.mean(wide))
    narrower = official_half_width(scores, anomalous, confidence=0.5)
    assert narrower < official_half_width(scores, anomalous)


@pytest.mark.parametrize("rule", [OFFICIAL, IN_DOMAIN])
@pytest.mark.parametrize("scale", ["evaluator", "textbook"])
def test_section_half_widths_are_those_of_the_clips_of_each_metric(rule, scale):
    rng = np.random.default_rng(7)
    scores, anomalous = random_clips(rng, clips=90, distinct=30)
    target = rng.random(90) < 0.5
    widths = section_half_widths(scores, anomalous, target, rule=rule, confidence=0.8, scale=scale)
    assert tuple(widths) == rule.metrics
    for name, width in widths.items():
        metric, _, domain = name.partition("_")
        clips = {"source": ~target, "target": target, "": np.ones(90, dtype=bool)}[domain]
        if rule is OFFICIAL:
            clips = clips | anomalous
        assert width == jackknife_half_width(
            scores[clips], anomalous[clips], metric=metric, confidence=0.8, scale=scale
        )


def test_half_widths_depend_on_the_order_of_scores_only():
    rng = np.random.default_rng(8)
    scores, anomalous = random_clips(rng, clips=50, distinct=30)
    order = rng.permutation(50)
    for metric in ("auc", "pauc"):
        width = jackknife_half_width(scores, anomalous, metric=metric)
        assert jackknife_half_width(np.exp(scores), anomalous, metric=metric) == width
        shuffled = jackknife_half_width(scores[order], anomalous[order], metric=metric)
        assert shuffled == pytest.approx(width, abs=1e-14)


def test_perfect_scores_have_no_width():
    assert jackknife_half_width([0, 1, 2, 3], [False, False, True, True], metric="auc") == 0.0


def test_seven_types_of_200_clips_take_less_than_a_second():
    rng = np.random.default_rng(9)
    sections = [
        (rng.normal(size=200), rng.permutation(200) < 100, rng.permutation(200) < 100) for _ in range(7)
    ]
    start_s = time.process_time()
    for scores, anomalous, target in sections:
        section_metrics(scores, anomalous, target)
        section_half_widths(scores, anomalous, target)
        decision_metrics(scores > 1, anomalous, target)
    official_half_width(*(np.concatenate([section[i] for section in sections]) for i in (0, 1)))
    assert time.process_time() - start_s < 1


@pytest.mark.parametrize(
    ("anomalous", "message"),
    [
        ([True, False, False, False], "there are 1 anomalies and 3 normal clips; leaving out each clip"),
        ([True, True, True, False], "there are 3 anomalies and 1 normal clips"),
        ([False, False, False, False], "no anomaly"),
    ],
)
def test_too_few_clips_are_refused(anomalous, message):
    scores = [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(InputError, match=message):
        jackknife_half_width(scores, anomalous, metric="auc")
    with pytest.raises(InputError, match=message):
        official_half_width(scores, anomalous)
    with pytest.raises(InputError, match=message):
        section_half_widths(scores, anomalous, [False] * 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "pacu"}, "no metric with a jackknife interval 'pacu'; did you mean 'pauc'"),
        ({"metric": "auc", "scale": "textbok"}, "'textbok'; did you mean 'textbook'"),
        ({"metric": "auc", "confidence": 95}, "confidence is 95; give a fraction"),
        ({"metric": "auc", "confidence": 1.0}, "confidence is 1.0"),
        ({"metric": "auc", "confidence": 0.0}, "confidence is 0.0"),
        ({"metric": "pauc", "max_fpr": 0.0}, "max_fpr is 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        jackknife_half_width([0, 2, 1, 3], [False, False, True, True], **options)


def groups_of(n_recordings, clips_of_each):
    return [f"recording {k}" for k in range(n_recordings) for _ in range(clips_of_each)]


@pytest.mark.parametrize("max_fpr", [1.0, 0.1])
def test_whole_recordings_are_left_out(max_fpr):
    rng = np.random.default_rng(20)
    scores, anomalous = rng.normal(size=60), np.repeat(np.arange(12) % 3 == 0, 5)
    groups = groups_of(12, 5)
    left_out = leave_one_out(scores, anomalous, max_fpr=max_fpr, groups=groups)
    naive = [
        partial_auc(np.delete(scores, of), np.delete(anomalous, of), max_fpr=max_fpr)
        for of in np.arange(60).reshape(12, 5)
    ]
    assert left_out == pytest.approx(naive, abs=1e-12)
    metric = "auc" if max_fpr == 1 else "pauc"
    spread = np.sqrt(11 / 12 * np.square(left_out - left_out.mean()).sum())
    width = jackknife_half_width(scores, anomalous, metric=metric, scale="textbook", groups=groups)
    assert width == pytest.approx(stats.t.ppf(0.975, 11) * spread)


def test_recordings_of_one_clip_and_unknown_ones_are_as_clips():
    rng = np.random.default_rng(21)
    scores, anomalous, target = rng.normal(size=40), np.tile([False, True], 20), np.arange(40) < 20
    by_clips = section_half_widths(scores, anomalous, target, scale="textbook")
    for groups in (groups_of(40, 1), [None] * 40):
        assert section_half_widths(scores, anomalous, target, scale="textbook", groups=groups) == by_clips


def test_an_interval_by_recordings_is_wider_where_their_clips_go_together():
    rng = np.random.default_rng(22)
    anomalous, target = np.repeat(np.arange(20) % 2 == 1, 5), np.repeat(np.arange(20) < 10, 5)
    scores = np.repeat(rng.normal(size=20), 5) + 0.2 * rng.normal(size=100) + anomalous
    by_clips = section_half_widths(scores, anomalous, target, scale="textbook")
    widths = section_half_widths(scores, anomalous, target, scale="textbook", groups=groups_of(20, 5))
    assert all(widths[metric] > 1.5 * by_clips[metric] for metric in ("auc_source", "auc_target"))


def test_a_metric_that_one_recording_decides_has_no_half_width():
    rng = np.random.default_rng(23)
    anomalous, target = np.tile([False, True], 20), np.arange(40) < 20
    scores = rng.normal(size=40)
    groups = np.where(target & ~anomalous, "a", [str(k) for k in range(40)]).tolist()
    widths = section_half_widths(scores, anomalous, target, scale="textbook", groups=groups)
    assert list(widths) == ["auc_source", "pauc"]
    of_one = np.where(anomalous, "b", [str(k) for k in range(40)]).tolist()
    with pytest.raises(InputError, match="all anomalies or all normal clips of 21 recordings"):
        jackknife_half_width(scores, anomalous, metric="auc", scale="textbook", groups=of_one)


def test_the_evaluators_jackknife_takes_no_recordings():
    with pytest.raises(InputError, match="leaves out clips, not recordings; give scale='textbook'"):
        jackknife_half_width([0, 2, 1, 3], [False, False, True, True], metric="auc", groups=["a"] * 4)
