"""Published results, shown next to measured ones.

Idea: a published result is shown with its source and the way it was computed, is never marked as the best,
and only appears next to results on the machine types that it covers. The files ``published_results.csv``
(one row per result, with its source) and ``published_values.csv`` (values per machine type, fractions as the
sources print them) are in the folder of this module.

Conventions: a data set that is registered under the name of a challenge is taken for the data of that
challenge. Scores are recomputed from the values of the machine types; ``printed_score`` is what the source
prints.

Sources: K. Dohi et al. and T. Nishida et al., the read-me files of the evaluators (nttcslab), for the
official baselines on evaluation data; Y. Zhang and M. Li, "Anomalous sound detection via multitask learning
and adversarial learning", technical report, DCASE 2023 Challenge Task 2, Table 2, for its four systems and
the baselines on development data.

Known issues: all but one of the report's values for its own systems are on the grid of AUCs computed with the
anomalies of one domain only, and its averages are up to 1.4 percentage points below the harmonic mean of its
values. They are not comparable with values computed by the official rule; ``variant`` says so.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from asdbench.metrics import OFFICIAL, summary

_KEY = ("data", "subset", "system")


@dataclass(frozen=True)
class Reference:
    """A published result.

    Attributes
    ----------
    system
        The name in the source.
    data, subset
        The challenge, and its subset.
    source, variant
        Where it is published, and how it was computed.
    printed_score
        The official score that the source prints, a fraction.
    values
        ``auc_source``, ``auc_target`` and ``pauc`` by machine type, fractions.
    """

    system: str
    data: str
    subset: str
    source: str
    variant: str
    printed_score: float
    values: dict[str, dict[str, float]] = field(hash=False)

    def score(self, machine_types: Sequence[str]) -> float:
        """Return the harmonic mean of all values of the given machine types, which it must cover."""
        return summary([self.values[machine_type] for machine_type in machine_types])["score"]


@cache
def references() -> tuple[Reference, ...]:
    """Return all published results.

    >>> baselines = [result for result in references() if result.data == "dcase2024"]
    >>> [result.subset for result in baselines]
    ['eval', 'eval']
    """
    values: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
    for row in _table("published_values.csv"):
        by_type = values.setdefault(tuple(row[name] for name in _KEY), {})
        by_type[row["machine_type"]] = {name: float(row[name]) for name in OFFICIAL.metrics}
    return tuple(
        Reference(
            row["system"],
            row["data"],
            row["subset"],
            row["source"],
            row["variant"],
            float(row["printed_score"]),
            values[tuple(row[name] for name in _KEY)],
        )
        for row in _table("published_results.csv")
    )


def _table(name: str) -> list[dict[str, str]]:
    text = (resources.files("asdbench.report") / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def references_for(data: str, machine_types: Sequence[str], *, subset: str | None = None) -> list[Reference]:
    """Return the published results on the data set of a challenge that cover any of the machine types.

    >>> sorted({result.subset for result in references_for("dcase2023", ["Vacuum"])})
    ['eval']
    """
    return [
        reference
        for reference in references()
        if reference.data == data
        and subset in (None, reference.subset)
        and set(machine_types) & set(reference.values)
    ]
