"""Notes on AUCs that are so far below chance that the labels may be swapped."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl

from asdbench.metrics import Rule
from asdbench.metrics.chance import aucs_far_below_chance

_N_EXAMPLES = 3


class LowAuc(NamedTuple):
    """An AUC that is far below chance: its name among the metrics, its value, and what it is of."""

    metric: str
    value: float
    of: str


def low_aucs(
    results: Iterable[tuple[str, str, Mapping[str, Any]]], labeled: pl.DataFrame, *, rule: Rule
) -> list[LowAuc]:
    """Return the AUCs of results that are far below chance.

    Parameters
    ----------
    results : iterable of (machine type, system, metrics by name)
        Metrics of a machine type.
    labeled : polars.DataFrame
        The clips that they are computed from, with columns ``machine_type``, ``domain`` and ``anomaly``.
    rule : Rule
        The rule of the metrics.
    """
    labels = {
        str(machine_type): (
            clips["anomaly"].to_numpy(),
            (clips["domain"] == "target").fill_null(False).to_numpy(),
        )
        for (machine_type,), clips in labeled.group_by("machine_type")
    }
    return [
        LowAuc(name, metrics[name], f"{machine_type} ({system})")
        for machine_type, system, metrics in results
        for name in aucs_far_below_chance(metrics, *labels[machine_type], rule=rule)
    ]


def low_auc_notes(found: Iterable[LowAuc]) -> list[str]:
    """Return a note that names the lowest AUCs, each at its lowest of several seeds; none if there are none.

    >>> low_auc_notes([LowAuc("auc_source", 0.081, "fan (mine)")])
    ['AUC source 8.1 % of fan (mine) is far below chance; are the labels swapped?']
    """
    by_name: dict[tuple[str, str], LowAuc] = {}
    for low in sorted(found, key=lambda low: (low.value, low)):
        by_name.setdefault((low.metric, low.of), low)
    lowest = list(by_name.values())
    shown = [
        f"AUC{low.metric[3:].replace('_', ' ')} {100 * low.value:.1f} % of {low.of}"
        for low in lowest[:_N_EXAMPLES]
    ]
    if len(lowest) > _N_EXAMPLES:
        shown.append(f"{len(lowest) - _N_EXAMPLES} more")
    if not shown:
        return []
    listed = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    verb = "is" if len(lowest) == 1 else "are"
    return [f"{listed} {verb} far below chance; are the labels swapped?"]
