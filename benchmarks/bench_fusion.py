"""Fusion weights evaluated per second: seven machine types of 200 clips, three members, one seed, one thread.

For comparison, some of these weights are evaluated one by one with `section_metrics` and `official_score`.
Both implementations run in one process and must agree to 1e-12.

    OMP_NUM_THREADS=1 python benchmarks/bench_fusion.py
"""

import time

import numpy as np

from asdbench.metrics import OFFICIAL, official_score, section_metrics
from asdbench.search.fusion import search_weights
from asdbench.search.fusion_problem import FusionProblem, SectionContributions

TYPES = 7
CLIPS = 200  # per machine type, as many of each domain and class
MEMBERS = ("a", "b", "c")
EVALUATIONS = 4096
ONE_BY_ONE = 128


def problem(rng):
    anomalous = np.tile([False, True], CLIPS // 2)
    target = np.arange(CLIPS) < CLIPS // 2
    sections = []
    for kind in range(TYPES):
        shift = rng.uniform(0, 1, (len(MEMBERS), 1)) * anomalous
        contributions = rng.normal(size=(1, 1, len(MEMBERS), CLIPS)) + shift
        sections.append(SectionContributions(f"type {kind}", "00", contributions, anomalous, target))
    return FusionProblem("ensemble", MEMBERS, "weights", ({},), (0,), tuple(sections), OFFICIAL)


def one_by_one(given, weights):
    return [
        official_score(
            section_metrics(row @ section.contributions[0, 0], section.anomalous, section.target)
            for section in given.sections
        )
        for row in weights
    ]


def fastest(function, *arguments):
    took = []
    for _ in range(5):
        start_s = time.perf_counter()
        found = function(*arguments)
        took.append(time.perf_counter() - start_s)
    return found, min(took)


def main():
    rng = np.random.default_rng(0)
    given = problem(rng)
    weights = rng.dirichlet(np.ones(len(MEMBERS)), EVALUATIONS)
    scores, ours_s = fastest(given.scores, weights, {})
    reference, naive_s = fastest(one_by_one, given, weights[:ONE_BY_ONE])
    ours, naive = EVALUATIONS / ours_s, ONE_BY_ONE / naive_s
    difference = float(np.max(np.abs(scores[:ONE_BY_ONE] - reference)))
    print(f"in batches                   {ours:9,.0f} evaluations/s")
    print(f"one by one                   {naive:9,.0f} evaluations/s")
    print(f"ratio                        {ours / naive:9.1f}")
    print(f"largest difference           {difference:9.1e}")
    start_s = time.perf_counter()
    found = search_weights(given, evaluations=EVALUATIONS, seed=0)
    whole = found.evaluations / (time.perf_counter() - start_s)
    print(f"a complete search            {whole:9,.0f} evaluations/s")
    if difference > 1e-12:
        raise SystemExit("the two implementations disagree")


if __name__ == "__main__":
    main()
