"""How often `asdbench compare` would call a true zero difference sure, by the number of seeds.

python benchmarks/bench_seeds.py [--cases 1000]

Two systems are equally good on average over all seeds; a seed shifts how well a system separates anomalies.
The shift is as large as the effect of drawing the test clips ("1 x"), or twice as large. Each seed of each
system has a shift of its own. Each case draws new clips and new seeds, and scores both systems on the same
clips. A case counts if the 95 % interval of the difference excludes zero:

- clips only: what one seed allows, percentiles over clips;
- plain bootstrap: percentiles over resampled clips and seeds;
- asdbench: clips resampled, the variance of seeds added, with Student's t (`asdbench.metrics.resampled`).

`compare` calls nothing sure below three seeds; the table shows what it would call sure without that.
"""

import argparse

import numpy as np

from asdbench.metrics import WITHOUT_DOMAINS, Rule
from asdbench.metrics.bootstrap import SectionScores, bootstrap
from asdbench.metrics.resampled import Resampled

SEEDS = (1, 2, 3, 5, 10)
RULE = Rule(auc_of=("section",), pauc_of=(), mean=WITHOUT_DOMAINS.mean)  # one AUC
CLIPS = 60  # of a case, half of them anomalies
SHARED = 0.6  # share of the variance of a clip's score that both systems have in common
# A separation of 1 is an AUC of 76 %. With this deviation over seeds, a difference between two systems
# deviates over seeds as much as over clips.
SHIFT = 0.19


def simulate(cases: int, seeds: int, *, shift: float, rng: np.random.Generator) -> list[SectionScores]:
    """Return cases, each a section of its own: two equally good systems, whose seeds stand side by side."""
    anomalous = np.arange(CLIPS) % 2 == 1
    clips = np.sqrt(SHARED) * rng.normal(size=(cases, 1, 1, CLIPS))
    system = np.sqrt(1 - SHARED) * rng.normal(size=(cases, 2, 1, CLIPS))
    separation = 1 + shift * rng.normal(size=(cases, 2, seeds, 1))
    scores = (clips + system + separation * anomalous).reshape(cases, 2 * seeds, 1, CLIPS)
    target = np.zeros(CLIPS, dtype=bool)
    return [SectionScores(str(case), scores[case], anomalous, target) for case in range(cases)]


def resampled_cases(cases: int, seeds: int, *, shift: float, resamples: int) -> list[Resampled]:
    """Return the resampled scores of simulated cases; every seed of either system is a system there."""
    rng = np.random.default_rng(0)
    sections = simulate(cases, seeds, shift=shift, rng=rng)
    return list(bootstrap(sections, rng, rule=RULE, resamples=resamples)[1].values())


def with_seeds(case: Resampled, seeds: int) -> Resampled:
    """Return the two systems of a case with the first ``seeds`` of their seeds."""
    systems = np.split(np.arange(case.observed.size), 2)
    return Resampled(
        [case.observed[of[:seeds]] for of in systems],
        np.stack([case.resampled[:, of[:seeds]].mean(axis=1) for of in systems], axis=1),
        [max(case.freedom)] * 2,
    )


def excludes_zero(interval: tuple[float, float]) -> bool:
    return interval[0] > 0 or interval[1] < 0


def by_clips(case: Resampled) -> tuple[float, float]:
    low, high = np.quantile(case.resampled[:, 1] - case.resampled[:, 0], [0.025, 0.975])
    return float(low), float(high)


def plain(case: Resampled, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile interval over resampled clips and seeds.

    The seeds' deviations are those of the observed scores, added to the resamples of clips.
    """
    difference = case.per_seed[1] - case.per_seed[0]
    resamples = len(case.resampled)
    drawn = rng.integers(difference.size, size=(resamples, difference.size))
    of_seeds = difference[drawn].mean(axis=1) - difference.mean()
    low, high = np.quantile(case.resampled[:, 1] - case.resampled[:, 0] + of_seeds, [0.025, 0.975])
    return float(low), float(high)


def rates(cases: list[Resampled]) -> dict[str, float]:
    """Return how often each interval excludes zero."""
    rng = np.random.default_rng(1)
    return {
        "clips only": float(np.mean([excludes_zero(by_clips(case)) for case in cases])),
        "plain bootstrap": float(np.mean([excludes_zero(plain(case, rng)) for case in cases])),
        "asdbench": float(np.mean([excludes_zero(case.difference_interval(0, 1)) for case in cases])),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    cases = parser.parse_args().cases
    print("| seeds' share | seeds | clips only | plain bootstrap | asdbench |\n|---|---|---|---|---|")
    for factor in (1, 2):
        simulated = resampled_cases(cases, max(SEEDS), shift=factor * SHIFT, resamples=500)
        for seeds in SEEDS:
            found = rates([with_seeds(case, seeds) for case in simulated])
            shown = " | ".join(f"{100 * rate:.1f} %" for rate in found.values())
            print(f"| {factor} x | {seeds} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
