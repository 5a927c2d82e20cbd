"""Paired bootstrap of the official score: the uncertainty of a score, or of the difference of two scores.

Idea: a score is only as certain as it is stable under resampling of what was sampled. Clips, or whole
recordings where they are known, are resampled within each machine type and section; all systems and seeds
share the same resamples, so that common difficulties cancel in a difference. `asdbench.metrics.units` says
how units are drawn, and `asdbench.metrics.resampled` how seeds and machine types enter an interval.

A resampled AUC is a weighted sum over pairs of a normal clip and an anomaly. One matrix product gives, for
all resamples, the weight of the normal clips above each anomaly and tied with it; the contribution of the
anomaly is the closed form of `asdbench.metrics.roc`, which holds for weights as for clips.

Conventions: a run is one system with one seed. ``scores`` has shape (system, seed, clip), higher = more
anomalous; ``anomalous`` and ``target`` have shape (clip,), bool.

Source: B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall 1993, chapters 8
(several samples) and 13 (percentile intervals).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError
from asdbench.metrics.official import OFFICIAL, Rule, metric_clips, official_score, section_metrics
from asdbench.metrics.resampled import LEAST_TYPES, Part, Resampled, degrees_of_freedom
from asdbench.metrics.roc import BoolArray, FloatArray, areas, clip_flags, clip_scores, standardized
from asdbench.metrics.units import FEW_RECORDINGS, Groups, Kind, Units, WeightArray

_BLOCK = 2000  # resamples at a time, so that the matrices stay small


@dataclass(frozen=True, eq=False)
class SectionScores:
    """The scores of several systems on the same test clips of one section.

    Attributes
    ----------
    machine_type
        The machine type of the section.
    scores : shape (system, seed, clip), or for each system shape (seed, clip)
        Anomaly scores, finite. Systems may have different numbers of seeds.
    anomalous, target : shape (clip,), bool
        True for an anomaly; True for the target domain.
    group : shape (clip,), optional
        The recording of each clip, ``None`` where it is unknown; by default no recording is known.
    """

    machine_type: str
    scores: npt.ArrayLike | Sequence[npt.ArrayLike]
    anomalous: npt.ArrayLike
    target: npt.ArrayLike
    group: Groups | None = None


def bootstrap(
    sections: Sequence[SectionScores],
    generator: np.random.Generator,
    *,
    rule: Rule = OFFICIAL,
    resamples: int = 10_000,
) -> tuple[Resampled, dict[str, Resampled]]:
    """Resample the official scores of several systems over the same clips or recordings.

    Parameters
    ----------
    sections : sequence of SectionScores
        All sections of all machine types, with systems and seeds in the same order.
    generator : numpy.random.Generator
        Source of the random clips, recordings and machine types.
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
    seeds = _common_seeds(checked)
    observed: dict[str, list[list[dict[str, float]]]] = {}
    resampled: dict[str, list[FloatArray]] = {}
    variances: dict[str, list[tuple[FloatArray, int]]] = {}
    for section in checked:
        metrics = [section_metrics(run, section.anomalous, section.target, rule=rule) for run in section.runs]
        observed.setdefault(section.machine_type, []).append(metrics)
        values = _resampled_metrics(section, generator, rule=rule, resamples=resamples)
        resampled.setdefault(section.machine_type, []).append(values)
        variance = _system_means(_rule_terms(values, rule).var(axis=0, keepdims=True), seeds)[0]
        variances.setdefault(section.machine_type, []).append((variance, section.units.freedom))

    def over(machine_types: Sequence[str]) -> Resampled:
        by_run = zip(*(metrics for name in machine_types for metrics in observed[name]), strict=True)
        scores = np.array([official_score(sections_of_run, rule=rule) for sections_of_run in by_run])
        values = np.concatenate([section for name in machine_types for section in resampled[name]])
        return Resampled(
            np.split(scores, np.cumsum(seeds)[:-1]),
            _system_means(rule_means(values, rule), seeds),
            _freedom([part for name in machine_types for part in variances[name]]),
            len(machine_types),
        )

    by_type = {name: over([name]) for name in observed}
    total = over(list(observed))
    if len(observed) < LEAST_TYPES:
        return total, by_type
    like_these = _resampled_types(resampled, generator, rule=rule)
    return replace(total, like_these=_system_means(like_these, seeds)), by_type


def resampled_units(sections: Sequence[SectionScores]) -> dict[str, Kind]:
    """Return what is resampled of each machine type: "recordings", or "clips" where none has several.

    Examples
    --------
    >>> labels = np.array([False, False, True, True])
    >>> section = SectionScores("fan", np.zeros((1, 1, 4)), labels, ~labels, ["a", "a", "b", "c"])
    >>> resampled_units([section])
    {'fan': 'recordings'}
    """
    kinds: dict[str, Kind] = {}
    for section in map(_checked, sections):
        is_by_recording = "recordings" in (section.units.kind, kinds.get(section.machine_type))
        kinds[section.machine_type] = "recordings" if is_by_recording else "clips"
    return kinds


def few_recordings(sections: Sequence[SectionScores]) -> dict[str, int]:
    """Return the machine types whose interval is rough, with the number of recordings that makes it so.

    It is that of the domain and label with fewest recordings, and is below ``FEW_RECORDINGS``. Machine types
    that are resampled by clips are absent.
    """
    fewest: dict[str, int] = {}
    for section in map(_checked, sections):
        count = section.units.fewest
        if section.units.kind == "recordings" and count < FEW_RECORDINGS:
            fewest[section.machine_type] = min(count, fewest.get(section.machine_type, count))
    return fewest


@dataclass(frozen=True, eq=False)
class _Section:
    """The checked scores of a section: ``runs`` has shape (run, clip), ``seeds`` one number per system."""

    machine_type: str
    runs: FloatArray
    seeds: tuple[int, ...]
    anomalous: BoolArray
    target: BoolArray
    units: Units


def _checked(section: SectionScores) -> _Section:
    systems = [_checked_scores(section.machine_type, scores) for scores in _by_system(section)]
    runs = np.concatenate(systems)
    clip_scores(runs.ravel())
    count = runs.shape[1]
    anomalous = clip_flags("anomalous", section.anomalous, count=count)
    target = clip_flags("target", section.target, count=count)
    units = Units.from_clips(section.group, anomalous, target)
    return _Section(section.machine_type, runs, tuple(map(len, systems)), anomalous, target, units)


def _by_system(section: SectionScores) -> Sequence[npt.ArrayLike]:
    if isinstance(section.scores, Sequence):
        return section.scores
    scores = np.asarray(section.scores, dtype=np.float64)
    if scores.ndim != 3 or scores.size == 0:
        raise InputError(
            f"scores of {section.machine_type} have shape {scores.shape}; give (system, seed, clip)"
        )
    return list(scores)


def _checked_scores(machine_type: str, scores: npt.ArrayLike) -> FloatArray:
    checked = np.asarray(scores, dtype=np.float64)
    if checked.ndim != 2 or checked.size == 0:
        raise InputError(
            f"scores of a system on {machine_type} have shape {checked.shape}; give (seed, clip)"
        )
    return checked


def _common_seeds(sections: Sequence[_Section]) -> tuple[int, ...]:
    seeds = {section.seeds for section in sections}
    if len(seeds) > 1:
        raise InputError(
            f"sections have systems with {', '.join(map(str, sorted(seeds)))} seeds; "
            f"give every section the same systems and seeds"
        )
    return seeds.pop()


def _freedom(variances: Sequence[tuple[FloatArray, int]]) -> list[float]:
    """Return the degrees of freedom of each system, from the variances and units of all sections."""
    by_system = zip(*(variance for variance, _ in variances), strict=True)
    return [
        degrees_of_freedom([Part(float(v), units) for v, (_, units) in zip(parts, variances, strict=True)])
        for parts in by_system
    ]


def _system_means(by_run: FloatArray, seeds: Sequence[int]) -> FloatArray:
    """Return the mean of each system's runs: from shape (resample, run) to (resample, system)."""
    starts = np.cumsum([0, *seeds[:-1]])
    means: FloatArray = np.add.reduceat(by_run, starts, axis=1) / np.array(seeds)
    return means


def _resampled_types(
    resampled: Mapping[str, Sequence[FloatArray]], generator: np.random.Generator, *, rule: Rule
) -> FloatArray:
    """Return the score of each run with machine types drawn too, shape (resample, run).

    One fewer than there are is drawn, and each drawn one has a resample of clips of its own.
    """
    by_type = [np.concatenate(sections) for sections in resampled.values()]
    counts = np.array([len(values) for values in by_type])
    sums = np.stack([len(values) * _rule_terms(values, rule) for values in by_type])
    types, resamples, _ = sums.shape
    drawn = generator.integers(types, size=(types - 1, resamples))
    rows = generator.integers(resamples, size=(types - 1, resamples))
    totals = np.zeros_like(sums[0])
    for of_slot, row in zip(drawn, rows, strict=True):
        totals += sums[of_slot, row]
    means: FloatArray = totals / counts[drawn].sum(axis=0)[:, None]
    return means if rule.mean == "arithmetic" else 1 / means


def _resampled_metrics(
    section: _Section, generator: np.random.Generator, *, rule: Rule, resamples: int
) -> FloatArray:
    """Return the metrics of a section, shape (metric, resample, run)."""
    anomalous = section.anomalous
    weights = section.units.draw(resamples, generator)
    metrics = metric_clips(anomalous, section.target, rule=rule).values()
    values = np.empty((len(metrics), resamples, len(section.runs)))
    for run, scores in enumerate(section.runs):
        for metric, (clips, max_fpr) in enumerate(metrics):
            normal, anomaly = clips & ~anomalous, clips & anomalous
            for start in range(0, resamples, _BLOCK):
                block = slice(start, start + _BLOCK)
                values[metric, block, run] = _weighted_auc(
                    scores[normal],
                    scores[anomaly],
                    weights[block, normal],
                    weights[block, anomaly],
                    max_fpr=max_fpr,
                )
    return values


def _weighted_auc(
    normal: FloatArray,
    anomaly: FloatArray,
    normal_weights: WeightArray,
    anomaly_weights: WeightArray,
    *,
    max_fpr: float,
) -> FloatArray:
    """Return the partial AUC of each resample, with weighted clips.

    ``normal`` and ``anomaly`` have shape (clip,), the weights (resample, clip); each is 0 or at least 1.
    """
    above = normal_weights @ (normal[:, None] > anomaly).astype(np.float32)
    ties = (normal[:, None] == anomaly).astype(np.float32)
    tied = normal_weights @ ties if ties.any() else np.zeros_like(above)
    normals = normal_weights.sum(axis=1, keepdims=True)
    # Without a limit the closed form is shorter.
    area = normals - above - tied / 2 if max_fpr == 1 else areas(above, tied, limit=max_fpr * normals)
    total = np.einsum("ra,ra->r", area, anomaly_weights, dtype=np.float64)
    return standardized(total / (normals[:, 0] * anomaly_weights.sum(axis=1, dtype=np.float64)), max_fpr)


def rule_means(values: FloatArray, rule: Rule) -> FloatArray:
    """Return the rule's mean over the first axis of ``values``, shape (metric, ...)."""
    means = _rule_terms(values, rule)
    return means if rule.mean == "arithmetic" else 1 / means


def _rule_terms(values: FloatArray, rule: Rule) -> FloatArray:
    """Return the mean of the raised values, or of their reciprocals where the rule's mean is harmonic."""
    raised = np.maximum(values, rule.floor)
    means: FloatArray = raised.mean(axis=0) if rule.mean == "arithmetic" else (1 / raised).mean(axis=0)
    return means
