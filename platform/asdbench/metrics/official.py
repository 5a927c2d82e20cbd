"""The metrics of DCASE Challenge Task 2 for a machine type and section, and their mean over all of them.

Idea: challenges differ in a few points. A `Rule` records these points, and the functions are the same for all
challenges. `asdbench.data.sets.challenges` lists the rule of each challenge.

`OFFICIAL`, for systems that must handle both domains without knowing the domain of a clip: the AUC of a
domain ranks the normal clips of that domain against the anomalies of *both* domains; the pAUC takes all clips
of the section; the official score is the harmonic mean of every AUC and pAUC over types and sections, values
below the float64 epsilon raised to it.

`IN_DOMAIN`, for test clips of known domain: AUC and pAUC of a domain use only the clips of that domain. All
but one of the values that Zhang and Li (2023) publish for their systems are on the grid of this rule, which
is coarser than the official one. They report one pAUC per machine type without naming its domain:
``dataclasses.replace(IN_DOMAIN, pauc_of=("source",))`` gives a mean of the same number of values.

`WITHOUT_DOMAINS`, for data without domains: one AUC and one pAUC per machine (here: section), arithmetic
means. The challenge ranked by the average AUC, then by the average pAUC, and had no single score; the score
here is the mean of both.

Conventions: ``anomalous`` and ``target`` have shape (clip,), bool, ``target`` False for the source domain.
Metrics are named ``auc``, ``auc_source``, ``auc_target``, ``pauc``, ``pauc_source``, ``pauc_target``. A
domain without clips has no metrics: data of only the source domain give ``auc_source`` and ``pauc``, and
means are over the existing metrics. A domain that has clips but cannot be scored is an error, so that no
metric is silently missing.

Sources: the evaluators y-kawagu/dcase2020_task2_evaluator, y-kawagu/dcase2021_task2_evaluator and
nttcslab/dcase2023_task2_evaluator; K. Dohi et al., "Description and discussion on DCASE 2023
challenge task 2", DCASE Workshop 2023; Zhang and Li, "Anomalous sound detection via multitask learning and
adversarial learning", technical report, DCASE 2023 Challenge Task 2.

Departure: the evaluator's column "arithmetic mean" excludes the pAUC; `summary` includes all values.
"""

import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from asdbench.errors import InputError, unknown_name
from asdbench.metrics.roc import BoolArray, check_classes, clip_flags, clip_scores, partial_auc

Clips = Literal["section", "source", "target"]

DOMAINS = ("source", "target")


def _harmonic_mean(values: list[float]) -> float:
    """Return what `statistics.harmonic_mean` does, to the last bit, several times as fast.

    The sum of the reciprocals is exact, so that the quotient is rounded once. Values are positive.
    """
    if len(values) == 1:
        return values[0]
    ratios = [(1.0 / value).as_integer_ratio() for value in values]
    common = max(denominator for _, denominator in ratios)  # all are powers of two
    total = sum(numerator * (common // denominator) for numerator, denominator in ratios)
    return len(values) * common / total


MEANS: dict[str, Callable[[list[float]], float]] = {
    "arithmetic": statistics.fmean,
    "harmonic": _harmonic_mean,
}


@dataclass(frozen=True)
class Rule:
    """The metrics of a challenge and their mean.

    Attributes
    ----------
    anomalies
        The anomalies against which the normal clips of a domain are ranked: those of "both domains" or of
        the "own domain".
    auc_of
        The sets of clips that have an AUC: all clips of the "section", or the "source" or "target" domain.
    pauc_of
        The sets of clips that have a pAUC, in the same way.
    max_fpr
        The largest false positive rate of the pAUC.
    mean
        The mean over metrics, machine types and sections: "harmonic" or "arithmetic".
    floor
        Lower bound applied to values before the mean, because one zero makes a harmonic mean zero.

    Examples
    --------
    >>> Rule().metrics
    ('auc_source', 'auc_target', 'pauc')
    """

    anomalies: Literal["both domains", "own domain"] = "both domains"
    auc_of: tuple[Clips, ...] = ("source", "target")
    pauc_of: tuple[Clips, ...] = ("section",)
    max_fpr: float = 0.1
    mean: Literal["harmonic", "arithmetic"] = "harmonic"
    floor: float = sys.float_info.epsilon

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("choice of anomalies", self.anomalies, ("both domains", "own domain")),
            *(("set of clips for an AUC", clips, ("section", *DOMAINS)) for clips in self.auc_of),
            *(("set of clips for a pAUC", clips, ("section", *DOMAINS)) for clips in self.pauc_of),
            ("mean", self.mean, MEANS),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics of a section with both domains, in the order of a table."""
        return (*(_named("auc", clips) for clips in self.auc_of), *(_named("pauc", c) for c in self.pauc_of))

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that have metrics of their own."""
        return tuple(domain for domain in DOMAINS if domain in (*self.auc_of, *self.pauc_of))


OFFICIAL = Rule()
IN_DOMAIN = Rule(anomalies="own domain", pauc_of=("source", "target"))
WITHOUT_DOMAINS = Rule(auc_of=("section",), mean="arithmetic")


def section_metrics(
    scores: npt.ArrayLike, anomalous: npt.ArrayLike, target: npt.ArrayLike, *, rule: Rule = OFFICIAL
) -> dict[str, float]:
    """Return the metrics of one section of one machine type.

    Parameters
    ----------
    scores : shape (clip,)
        Anomaly scores, finite, higher = more anomalous.
    anomalous, target : shape (clip,), bool
        True for an anomaly; True for a clip of the target domain.
    rule : Rule
        Rule of the challenge.

    Returns
    -------
    dict
        The metrics of ``rule.metrics`` by name; those of a domain without clips are absent.

    Raises
    ------
    InputError
        A score is not finite, lengths differ, or the section or one of its domains lacks anomalies or normal
        clips.

    Examples
    --------
    >>> anomalous = np.array([False, False, True, True])
    >>> target = np.array([False, True, False, True])
    >>> section_metrics([0.1, 0.6, 0.5, 0.9], anomalous, target)
    {'auc_source': 1.0, 'auc_target': 0.5, 'pauc': 0.736...}
    """
    scored = clip_scores(scores)
    flags = clip_flags("anomalous", anomalous, count=scored.size)
    return {
        name: partial_auc(scored[clips], flags[clips], max_fpr=max_fpr)
        for name, (clips, max_fpr) in metric_clips(flags, target, rule=rule).items()
    }


def metric_clips(
    anomalous: BoolArray, target: npt.ArrayLike, *, rule: Rule
) -> dict[str, tuple[BoolArray, float]]:
    """Return for each metric of a section the mask of its clips, shape (clip,), and its ``max_fpr``.

    Raises `InputError` if a metric lacks a normal clip or an anomaly.
    """
    in_target = clip_flags("target", target, count=anomalous.size)
    clips = {"section": np.ones_like(anomalous)}
    for domain, present in zip(DOMAINS, (~in_target, in_target), strict=True):
        if domain in rule.domains and present.any():
            clips[domain] = present | anomalous if rule.anomalies == "both domains" else present
    for subset, mask in clips.items():
        check_classes(anomalous[mask], "the section" if subset == "section" else f"the {subset} domain")
    aucs = {_named("auc", subset): (clips[subset], 1.0) for subset in rule.auc_of if subset in clips}
    paucs = {
        _named("pauc", subset): (clips[subset], rule.max_fpr) for subset in rule.pauc_of if subset in clips
    }
    return aucs | paucs


def official_score(sections: Iterable[Mapping[str, float]], *, rule: Rule = OFFICIAL) -> float:
    """Return the rule's mean of all metrics of all sections; under `OFFICIAL` it is the official score.

    Parameters
    ----------
    sections : iterable of mappings
        For each machine type and section the metrics by name, as returned by `section_metrics`; fractions or
        percentages.
    rule : Rule
        Provides the allowed ``metrics``, the ``mean`` and the ``floor``.

    Raises
    ------
    InputError
        There is no value, a value is not finite, or the rule has no such metric.

    Examples
    --------
    >>> round(official_score([{"auc_source": 0.8, "auc_target": 0.6, "pauc": 0.5}]), 4)
    0.6102
    """
    return _mean(_values(sections, rule), rule.mean, rule.floor)


def summary(sections: Iterable[Mapping[str, float]], *, rule: Rule = OFFICIAL) -> dict[str, float]:
    """Return the means over machine types and sections for a table.

    Parameters
    ----------
    sections : iterable of mappings
        As for `official_score`.
    rule : Rule
        As for `official_score`.

    Returns
    -------
    dict
        ``score``, the rule's mean of all values; ``arithmetic_mean`` of all values; and for each metric its
        mean by the rule, ``harmonic_mean_<metric>`` or ``arithmetic_mean_<metric>``. The rule's floor applies
        to all of them.

    Raises
    ------
    InputError
        As for `official_score`.
    """
    rows = list(sections)
    values = _values(rows, rule)
    means = {
        "score": _mean(values, rule.mean, rule.floor),
        "arithmetic_mean": _mean(values, "arithmetic", rule.floor),
    }
    for metric in rule.metrics:
        column = [row[metric] for row in rows if metric in row]
        if column:
            means[f"{rule.mean}_mean_{metric}"] = _mean(column, rule.mean, rule.floor)
    return means


def decision_metrics(
    decisions: npt.ArrayLike, anomalous: npt.ArrayLike, target: npt.ArrayLike, *, rule: Rule = OFFICIAL
) -> dict[str, float]:
    """Return precision, recall and F1 of each domain, from the clips of that domain only.

    Parameters
    ----------
    decisions, anomalous, target : shape (clip,), bool
        True for a clip classified as anomalous; True for an anomaly; True for the target domain.
    rule : Rule
        Decides whether there are domains; without them the metrics are over all clips.

    Returns
    -------
    dict
        ``precision_source``, ``recall_source``, ``f1_source`` and the same for ``target``; those of a domain
        without clips are absent. Without domains ``precision``, ``recall`` and ``f1``. A ratio 0/0 is 0.0, as
        in the official evaluator: precision if no clip was classified as anomalous, recall if none is, F1 if
        both are 0.

    Raises
    ------
    InputError
        Lengths differ, an array is not boolean, or there is no clip.

    Examples
    --------
    >>> decisions, anomalous = np.array([True, True, False]), np.array([True, False, True])
    >>> decision_metrics(decisions, anomalous, np.zeros(3, bool), rule=WITHOUT_DOMAINS)
    {'precision': 0.5, 'recall': 0.5, 'f1': 0.5}
    """
    count = np.size(decisions)
    if count == 0:
        raise InputError("there is no decision; give one decision per clip, for at least one clip")
    decided = clip_flags("decisions", decisions, count=count)
    flags = clip_flags("anomalous", anomalous, count=count)
    in_target = clip_flags("target", target, count=count)
    of_domains: dict[Clips, BoolArray] = {"source": ~in_target, "target": in_target}
    metrics = {}
    for clips, present in (of_domains if rule.domains else {"section": np.ones_like(flags)}).items():
        if present.any():
            hits = int(np.count_nonzero(decided & flags & present))
            decided_count = int(np.count_nonzero(decided & present))
            anomaly_count = int(np.count_nonzero(flags & present))
            metrics[_named("precision", clips)] = hits / max(decided_count, 1)
            metrics[_named("recall", clips)] = hits / max(anomaly_count, 1)
            metrics[_named("f1", clips)] = 2 * hits / max(decided_count + anomaly_count, 1)
    return metrics


def _named(metric: str, clips: str) -> str:
    return metric if clips == "section" else f"{metric}_{clips}"


def _values(sections: Iterable[Mapping[str, float]], rule: Rule) -> list[float]:
    values: list[float] = []
    known = rule.metrics
    names = set(known)
    for section in sections:
        if not section.keys() <= names:
            raise unknown_name("metric of this rule", next(m for m in section if m not in known), known)
        if not all(map(math.isfinite, section.values())):
            metric, value = next(item for item in section.items() if not math.isfinite(item[1]))
            raise InputError(f"{metric} is {value}; a mean needs finite values, so score that section again")
        values += map(float, section.values())
    if not values:
        raise InputError("there are no metrics to average; give those of at least one section")
    return values


def _mean(values: list[float], kind: str, floor: float) -> float:
    return MEANS[kind]([value if value > floor else floor for value in values])
