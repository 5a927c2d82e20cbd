"""Seconds to compare two systems with 10,000 resamples over seven machine types of 200 clips, one seed each.

python benchmarks/bench_compare.py
"""

import time

import numpy as np

from asdbench.metrics.bootstrap import SectionScores, bootstrap

TYPES = 7
CLIPS = 200  # per machine type, as many of each domain and class
RESAMPLES = 10_000


def main():
    rng = np.random.default_rng(0)
    anomalous = np.tile([False, True], CLIPS // 2)
    target = np.arange(CLIPS) < CLIPS // 2
    sections = [
        SectionScores(f"type {k}", rng.normal(size=(2, 1, CLIPS)) + 0.5 * anomalous, anomalous, target)
        for k in range(TYPES)
    ]
    took = []
    for _ in range(3):
        start = time.perf_counter()
        overall, _ = bootstrap(sections, np.random.default_rng(1), resamples=RESAMPLES)
        took.append(time.perf_counter() - start)
    low, high = overall.difference_interval(0, 1)
    print(
        f"{RESAMPLES:,} resamples of {TYPES} machine types of {CLIPS} clips, two systems: {min(took):.2f} s"
    )
    print(f"difference {overall.difference(0, 1):+.4f}, 95 % interval {low:+.4f} to {high:+.4f}")


if __name__ == "__main__":
    main()
