"""Paired bootstrap of the official score: the uncertainty of a score, or of the difference of two scores.

Idea: a score is only as certain as it is stable under resampling of clips and seeds. Clips are resampled with
replacement within each machine type, section, domain and label, so that every AUC exists and the proportions
of the challenge are preserved; seeds are resampled with replacement too. All systems and seeds share the same
resampled clips, and all systems the same resampled seeds, so that common difficulties cancel in a difference.
The interval is the percentile interval.

A resampled AUC is a weighted sum over pairs of a normal clip and an anomaly. One matrix product gives, for
all resamples, the weight of the normal clips above each anomaly and tied with it; the contribution of the
anomaly is the closed form of `asdbench.metrics.roc`, which holds for weights as for clips.

Conventions: a run is one system with one seed. ``scores`` has shape (system, seed, clip), higher = more
anomalous; ``anomalous`` and ``target`` have shape (clip,), bool.

Source: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall 1993, chapters 8
(several samples) and 13 (percentile intervals).

Known limits: with few seeds their spread is underestimated, as in any bootstrap of few values: with S seeds
the variance is (S − 1)/S of the true one, and a single seed contains no information about seeds. Clips cut
from one recording are resampled as if they were independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError
from asdbench.metrics.official import OFFICIAL, Rule, metric_clips, official_score, section_metrics
from asdbench.metrics.roc import BoolArray, FloatArray, areas, clip_flags, clip_scores, standardized

CountArray: TypeAlias = npt.NDArray[np.float32]

_BLOCK = 2000  # resamples at a time, so that the matrices stay small


@dataclass(frozen=True, eq=False)
class SectionScores:
    """The scores of several systems on the same test clips of one section.

    Attributes
    ----------
    machine_type
        The machine type of the section.
    scores : shape (system, seed, clip)
        Anomaly scores, finite.
    anomalous, target : shape (clip,), bool
        True for an anomaly; True for the target domain.
    """

    machine_type: str
    scores: npt.ArrayLike
    anomalous: npt.ArrayLike
    target: npt.ArrayLike


@dataclass(frozen=True, eq=False)
class Resampled:
    """Observed and resampled official scores.

    Attributes
    ----------
    observed : shape (system,)
        The mean over seeds of the official score.
    resampled : shape (resample, system)
        The same for each resample.
    """

    observed: FloatArray
    resampled: FloatArray

    def interval(self, system: int, *, confidence: float = 0.95) -> tuple[float, float]:
        """Return the lower and upper end of the interval of a system's score."""
        return _percentiles(self.resampled[:, system], confidence)

    def difference(self, system: int, other: int) -> float:
        """Return the score of ``other`` minus that of ``system``."""
        return float(self.observed[other] - self.observed[system])

    def difference_interval(
        self, system: int, other: int, *, confidence: float = 0.95
    ) -> tuple[float, float]:
        """Return the lower and upper end of the interval of that difference."""
        return _percentiles(self.resampled[:, other] - self.resampled[:, system], confidence)


def bootstrap(
    sections: Sequence[SectionScores],
    generator: np.random.Generator,
    *,
    rule: Rule = OFFICIAL,
    resamples: int = 10_000,
) -> tuple[Resampled, dict[str, Resampled]]:
    """Resample the official scores of several systems over the same clips and seeds.

    Parameters
    ----------
    sections : sequence of SectionScores
        All sections of all machine types, with systems and seeds in the same order.
    generator : numpy.random.Generator
        Source of the random clips and seeds.
    rule : Rule
        Rule of the challenge.
    resamples : int
        Number of resamples.

    Returns
    -------
    tuple
        The official score over all sections, and that of each machine type by name.

    Raises
    ------
    InputError
        There is no section or no resample, shapes disagree, a score is not finite, or a section lacks clips
        for a metric (as for `asdbench.metrics.section_metrics`).

    Examples
    --------
    >>> anomalous, target = np.arange(8) % 2 == 1, np.arange(8) >= 4
    >>> scores = np.stack([anomalous, np.arange(8) / 8])[:, None]  # two systems with one seed each
    >>> section = SectionScores("fan", scores, anomalous, target)
    >>> total, by_type = bootstrap([section], np.random.default_rng(0), resamples=100)
    >>> [round(end, 6) for end in total.interval(0)], total.difference(0, 1) < 0
    ([1.0, 1.0], True)
    """
    if not sections:
        raise InputError("there are no scores to resample; give those of at least one section")
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; give a whole number of at least 1, such as 10000")
    checked = [_checked(section) for section in sections]
    shapes = {scores.shape[:2] for scores, _, _ in checked}
    if len(shapes) > 1:
        raise InputError(
            f"sections have scores of (systems, seeds) {', '.join(map(str, sorted(shapes)))}; "
            f"give every section the same systems and seeds"
        )
    systems, seeds = shapes.pop()
    seed_counts = _drawn(seeds, resamples, generator) / np.float32(seeds)
    observed: dict[str, list[list[dict[str, float]]]] = {}
    resampled: dict[str, list[FloatArray]] = {}
    for section, (scores, anomalous, target) in zip(sections, checked, strict=True):
        runs = scores.reshape(systems * seeds, -1)
        metrics = [section_metrics(run, anomalous, target, rule=rule) for run in runs]
        values = _resampled_metrics(runs, anomalous, target, generator, rule=rule, resamples=resamples)
        observed.setdefault(section.machine_type, []).append(metrics)
        resampled.setdefault(section.machine_type, []).append(values)

    def over(machine_types: Sequence[str]) -> Resampled:
        by_run = zip(*(metrics for name in machine_types for metrics in observed[name]), strict=True)
        scores = np.array([official_score(sections_of_run, rule=rule) for sections_of_run in by_run])
        values = np.concatenate([section for name in machine_types for section in resampled[name]])
        means = rule_means(values, rule).reshape(resamples, systems, seeds)
        return Resampled(
            scores.reshape(systems, seeds).mean(axis=1), np.einsum("rks,rs->rk", means, seed_counts)
        )

    return over(list(observed)), {name: over([name]) for name in observed}


def _checked(section: SectionScores) -> tuple[FloatArray, BoolArray, BoolArray]:
    scores = np.asarray(section.scores, dtype=np.float64)
    if scores.ndim != 3 or scores.size == 0:
        raise InputError(
            f"scores of {section.machine_type} have shape {scores.shape}; give (system, seed, clip)"
        )
    clip_scores(scores.ravel())
    count = scores.shape[2]
    return (
        scores,
        clip_flags("anomalous", section.anomalous, count=count),
        clip_flags("target", section.target, count=count),
    )


def _resampled_metrics(
    runs: FloatArray,
    anomalous: BoolArray,
    target: BoolArray,
    generator: np.random.Generator,
    *,
    rule: Rule,
    resamples: int,
) -> FloatArray:
    """Return the metrics of a section, shape (metric, resample, run), of ``runs``, shape (run, clip)."""
    counts = np.empty((resamples, anomalous.size), dtype=np.float32)
    for domain in (False, True):
        for label in (False, True):
            stratum = (target == domain) & (anomalous == label)
            counts[:, stratum] = _drawn(int(stratum.sum()), resamples, generator)
    metrics = metric_clips(anomalous, target, rule=rule).values()
    values = np.empty((len(metrics), resamples, len(runs)))
    for run, scores in enumerate(runs):
        for metric, (clips, max_fpr) in enumerate(metrics):
            normal, anomaly = clips & ~anomalous, clips & anomalous
            for start in range(0, resamples, _BLOCK):
                block = slice(start, start + _BLOCK)
                values[metric, block, run] = _weighted_auc(
                    scores[normal],
                    scores[anomaly],
                    counts[block, normal],
                    counts[block, anomaly],
                    max_fpr=max_fpr,
                )
    return values


def _weighted_auc(
    normal: FloatArray,
    anomaly: FloatArray,
    normal_counts: CountArray,
    anomaly_counts: CountArray,
    *,
    max_fpr: float,
) -> FloatArray:
    """Return the partial AUC of each resample, with clips weighted by their counts.

    ``normal`` and ``anomaly`` have shape (clip,), the counts (resample, clip); the counts of a resample sum
    to the number of clips. Counts are integers far below 2²⁴, so that their sums are exact in float32.
    """
    above = normal_counts @ (normal[:, None] > anomaly).astype(np.float32)
    ties = (normal[:, None] == anomaly).astype(np.float32)
    tied = normal_counts @ ties if ties.any() else np.zeros_like(above)
    # Without a limit the closed form is shorter.
    unlimited = max_fpr == 1
    area = normal.size - above - tied / 2 if unlimited else areas(above, tied, limit=max_fpr * normal.size)
    total = np.einsum("ra,ra->r", area, anomaly_counts, dtype=np.float64)
    return standardized(total / (normal.size * anomaly.size), max_fpr)


def _drawn(clips: int, resamples: int, generator: np.random.Generator) -> CountArray:
    """Draw ``clips`` clips with replacement; return how often each was drawn, shape (resample, clip)."""
    if clips == 0:
        return np.zeros((resamples, 0), dtype=np.float32)
    drawn = generator.integers(clips, size=(resamples, clips))
    drawn += clips * np.arange(resamples)[:, None]
    return (
        np.bincount(drawn.ravel(), minlength=resamples * clips).reshape(resamples, clips).astype(np.float32)
    )


def rule_means(values: FloatArray, rule: Rule) -> FloatArray:
    """Return the rule's mean over the first axis of ``values``, shape (metric, ...)."""
    raised = np.maximum(values, rule.floor)
    means: FloatArray = (
        raised.mean(axis=0) if rule.mean == "arithmetic" else len(raised) / (1 / raised).sum(axis=0)
    )
    return means


def _percentiles(values: FloatArray, confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; give a fraction between 0 and 1, such as 0.95")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
