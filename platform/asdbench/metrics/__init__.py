"""Metrics as pure functions over arrays: numpy, scipy and scikit-learn only.

Arrays have shape ``(clip,)``; a higher score means a more anomalous clip; ``anomalous`` and ``target`` are
boolean arrays (``target`` is False for the source domain). Metrics are fractions between 0 and 1.

>>> from asdbench.metrics import auc
>>> auc([0.1, 0.2, 0.3, 0.9], [False, False, True, True])
1.0
"""

from asdbench.metrics.intervals import jackknife_half_width, official_half_width, section_half_widths
from asdbench.metrics.official import (
    IN_DOMAIN,
    OFFICIAL,
    WITHOUT_DOMAINS,
    Rule,
    decision_metrics,
    official_score,
    section_metrics,
    summary,
)
from asdbench.metrics.roc import auc, partial_auc
from asdbench.metrics.threshold import (
    DEFAULT_THRESHOLD,
    THRESHOLDS,
    empirical_threshold,
    gamma_threshold,
    least_groups,
    left_out_alarms,
    shared_threshold,
    tail_threshold,
    threshold,
)

__all__ = [
    "DEFAULT_THRESHOLD",
    "IN_DOMAIN",
    "OFFICIAL",
    "THRESHOLDS",
    "WITHOUT_DOMAINS",
    "Rule",
    "auc",
    "decision_metrics",
    "empirical_threshold",
    "gamma_threshold",
    "jackknife_half_width",
    "least_groups",
    "left_out_alarms",
    "official_half_width",
    "official_score",
    "partial_auc",
    "section_half_widths",
    "section_metrics",
    "shared_threshold",
    "summary",
    "tail_threshold",
    "threshold",
]
