"""The metrics of one stored result, by name."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from asdbench.engine.result_record import ResultRecord
from asdbench.metrics import DEFAULT_THRESHOLD, Rule, summary


def machine_type_metrics(record: ResultRecord, *, threshold: str = DEFAULT_THRESHOLD) -> dict[str, float]:
    """Return the metrics of one result, for one machine type, with decisions by a named threshold method.

    ``official_score`` and the rule's metrics by name are the rule's means over its sections;
    ``<metric>_half_width`` and precision, recall and F1 (per domain, if there are domains) are plain means
    over the sections; ``threshold`` is the decision threshold; of the held-out ``normals``, ``false_alarms``
    exceed a threshold that was fitted without their groups. A metric that no section has (a domain without
    clips) is absent.
    """
    sections = record.sections.values()
    half_widths = means_by_name([section.half_width for section in sections])
    return {
        **section_means([section.official for section in sections], rule=record.rule),
        **{f"{metric}_half_width": half_width for metric, half_width in half_widths.items()},
        **means_by_name([section.decisions[threshold] for section in sections]),
        **msgspec.structs.asdict(record.thresholds[threshold]),
    }


def section_means(sections: Iterable[Mapping[str, float]], *, rule: Rule) -> dict[str, float]:
    """Return ``official_score`` and the rule's metrics by name: the rule's means over sections."""
    means = summary(sections, rule=rule)
    metrics = {m: means[name] for m in rule.metrics if (name := f"{rule.mean}_mean_{m}") in means}
    return {"official_score": means["score"], **metrics}


def means_by_name(mappings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each name over the mappings that have it.

    >>> means_by_name([{"auc": 0.5, "pauc": 0.5}, {"auc": 0.75}])
    {'auc': 0.625, 'pauc': 0.5}
    """
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return {
        name: statistics.fmean([mapping[name] for mapping in mappings if name in mapping]) for name in names
    }
