"""Metrics of one stored result, by name."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asdbench.metrics import DEFAULT_THRESHOLD, Rule, summary

Record = Mapping[str, Any]


def machine_type_metrics(record: Record, *, threshold: str = DEFAULT_THRESHOLD) -> dict[str, float]:
    """Return the metrics of one result, which is of one machine type, with decisions by a named threshold.

    ``official_score`` and the metrics of the rule by name are the rule's means over its sections;
    ``<metric>_half_width`` and precision, recall and F1 (of each domain, if there are any) are plain means
    over them; ``threshold`` is the decision threshold, ``false_alarms`` the number of the held-out
    ``normals`` that exceed a threshold of others. What a section lacks (a domain without clips) is
    absent.
    """
    rule = Rule.from_record(record["rule"])
    sections = record["sections"].values()
    half_widths = means_by_name([section["half_width"] for section in sections])
    return {
        **section_means([section["official"] for section in sections], rule=rule),
        **{f"{metric}_half_width": half_width for metric, half_width in half_widths.items()},
        **means_by_name([section["decisions"][threshold] for section in sections]),
        **record["thresholds"][threshold],
    }


def section_means(sections: Iterable[Mapping[str, float]], *, rule: Rule) -> dict[str, float]:
    """Return ``official_score`` and the metrics of a rule by name: its means over sections."""
    means = summary(sections, rule=rule)
    metrics = {m: means[name] for m in rule.metrics if (name := f"{rule.mean}_mean_{m}") in means}
    return {"official_score": means["score"], **metrics}


def means_by_name(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name over the mappings that have it."""
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return {name: statistics.fmean(of[name] for of in mappings if name in of) for name in names}
