"""Seconds to judge seven machine types of 200 clips, compared with scikit-learn clip by clip.

Judging means section metrics, their jackknife half-widths, decision metrics, and the official half-width
over all pooled clips. Both implementations run in one process, one after the other, and must agree to
1e-12.

    python benchmarks/bench_scoring.py
"""

import math
import time

import numpy as np
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from asdbench import metrics

TYPES = 7
CLIPS = 200  # per machine type, as many of each domain and class


def machine_types(rng):
    """Return (scores, anomalous, target) of each machine type."""
    anomalous = np.tile([False, True], CLIPS // 2)
    target = np.arange(CLIPS) < CLIPS // 2
    return [(rng.normal(size=CLIPS) + 0.5 * anomalous, anomalous, target) for _ in range(TYPES)]


def ours(sections):
    values = []
    for scores, anomalous, target in sections:
        values += metrics.section_metrics(scores, anomalous, target).values()
        values += metrics.section_half_widths(scores, anomalous, target).values()
        values += metrics.decision_metrics(scores > 1, anomalous, target).values()
    pooled = (np.concatenate([section[part] for section in sections]) for part in (0, 1))
    return [*values, metrics.official_half_width(*pooled)]


def naive(sections):
    values = []
    for scores, anomalous, target in sections:
        takes = [(~target | anomalous, None), (target | anomalous, None), (np.ones(CLIPS, dtype=bool), 0.1)]
        values += [roc_auc_score(anomalous[clips], scores[clips], max_fpr=p) for clips, p in takes]
        values += [naive_half_width(scores[clips], anomalous[clips], p) for clips, p in takes]
        for clips in (~target, target):
            values += precision_recall_fscore_support(
                anomalous[clips], scores[clips] > 1, average="binary", zero_division=0
            )[:3]
    scores, anomalous = (np.concatenate([section[part] for section in sections]) for part in (0, 1))
    return [*values, np.mean([naive_half_width(scores, anomalous, p) for p in (None, 0.1)])]


def naive_half_width(scores, anomalous, max_fpr):
    n = scores.size
    left_out = [
        roc_auc_score(np.delete(anomalous, clip), np.delete(scores, clip), max_fpr=max_fpr)
        for clip in range(n)
    ]
    squares = np.sum((left_out - np.mean(left_out)) ** 2)
    return stats.t.ppf(0.975, n - 1) * math.sqrt(squares / (n * (n - 1)))


def timed(function, sections):
    start_s = time.perf_counter()
    values = function(sections)
    return values, time.perf_counter() - start_s


def main():
    sections = machine_types(np.random.default_rng(0))
    ours(sections)  # warm-up: imports and caches
    values, ours_s = timed(ours, sections)
    reference, naive_s = timed(naive, sections)
    difference = float(np.max(np.abs(np.subtract(values, reference))))
    print(f"asdbench                     {ours_s:9.4f} s")
    print(f"scikit-learn, clip by clip   {naive_s:9.4f} s")
    print(f"ratio                        {naive_s / ours_s:9.0f}")
    print(f"largest difference           {difference:9.1e}")
    if difference > 1e-12:
        raise SystemExit("the two implementations disagree")


if __name__ == "__main__":
    main()
