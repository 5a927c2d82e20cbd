"""The metrics of one stored result, by name."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from asdbench.engine.result_record import AlarmCount, ResultRecord, StoredThreshold
from asdbench.metrics import DEFAULT_THRESHOLD, Rule, summary


def machine_type_metrics(record: ResultRecord, *, threshold: str = DEFAULT_THRESHOLD) -> dict[str, float]:
    """Return the metrics of one result, for one machine type, with decisions by a named threshold method.

    ``official_score`` and the rule's metrics by name are the rule's means over its sections;
    ``<metric>_half_width`` and precision, recall and F1 (per domain, if there are domains) are plain means
    over the sections; ``threshold`` is the decision threshold, absent where normal clips are too few; of the
    held-out ``normals``, ``false_alarms`` exceed a threshold that was fitted without their groups. The
    threshold comes from ``threshold_units_<domain>`` recordings or clips, and takes ``threshold_needed``. Of
    the ``test_normals_<domain>`` normal test clips, ``test_false_alarms_<domain>`` exceed the threshold;
    where the rule has no domains, no name ends with one. A metric that no section has (a domain without
    clips) is absent.
    """
    sections = record.sections.values()
    half_widths = means_by_name([section.half_width for section in sections])
    return {
        **section_means([section.official for section in sections], rule=record.rule),
        **{f"{metric}_half_width": half_width for metric, half_width in half_widths.items()},
        **means_by_name([section.decisions.get(threshold, {}) for section in sections]),
        **_threshold_metrics(record.thresholds[threshold], record.rule),
        **_test_alarms([section.false_alarms.get(threshold, {}) for section in sections], record.rule),
    }


def domain_suffix(domain: str, rule: Rule) -> str:
    """Return the ending of the names of a domain's metrics; without domains all clips are those of one."""
    return f"_{domain}" if rule.domains else ""


def _threshold_metrics(stored: StoredThreshold, rule: Rule) -> dict[str, float]:
    held_out = stored.held_out
    return {
        **({} if stored.threshold is None else {"threshold": stored.threshold}),
        "false_alarms": sum(of_domain.false_alarms for of_domain in held_out.values()),
        "normals": sum(of_domain.normals for of_domain in held_out.values()),
        **{
            f"threshold_units{domain_suffix(domain, rule)}": of_domain.units
            for domain, of_domain in held_out.items()
        },
        "threshold_needed": stored.needed,
    }


def _test_alarms(sections: Sequence[Mapping[str, AlarmCount]], rule: Rule) -> dict[str, float]:
    """Return the sums over sections of false alarms and normal test clips, by domain."""
    counts: dict[str, float] = {}
    for domain, count in (item for section in sections for item in section.items()):
        for name in ("false_alarms", "normals"):
            key = f"test_{name}{domain_suffix(domain, rule)}"
            counts[key] = counts.get(key, 0) + getattr(count, name)
    return counts


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
