"""Published results, to stand beside measured ones.

Idea: what others report is shown as what it is: with its source, with the way it was counted, never as the
best, and only beside results on the machine types that it is of. Beside this module,
``published_results.csv`` says what there is and where it comes from, and ``published_values.csv`` holds the
values, fractions as their sources print them.

Conventions: a data set that is registered under the name of a challenge is that challenge's. Scores are
recomputed from the values of the machine types; ``printed_score`` is what the source prints.

Sources: K. Dohi et al. and T. Nishida et al., the read-me files of the evaluators (nttcslab), for the
official baselines on evaluation data; Y. Zhang and M. Li, "Anomalous sound detection via multitask learning
and adversarial learning", technical report, DCASE 2023 Challenge Task 2, Table 2, for its four systems and
the baselines on development data.

Known: the report's values for its own systems lie, but for one, on the grid of AUCs against the anomalies of
one domain, and its averages are up to 1.4 percent points below the harmonic mean of its values. They are not
comparable with values counted by the official rule, which is what ``variant`` says.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from asdbench.metrics import summary

_KEY = ("data", "subset", "system")


@dataclass(frozen=True)
class Reference:
    """A published result.

    Attributes
    ----------
    system
        What the source calls it.
    data, subset
        The challenge, and which of its subsets.
    source, variant
        Where it is published; how it was counted.
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
        """Return the harmonic mean of all values of machine types that it is of."""
        return summary([self.values[machine_type] for machine_type in machine_types])["score"]


@cache
def references() -> tuple[Reference, ...]:
    """Return all published results."""
    values: dict[tuple[str, ...], dict[str, dict[str, float]]] = {}
    for row in _table("published_values.csv"):
        of = values.setdefault(tuple(row[name] for name in _KEY), {})
        of[row["machine_type"]] = {name: float(row[name]) for name in ("auc_source", "auc_target", "pauc")}
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
    """Return the published results on a challenge's data set, of any of the machine types, in a subset."""
    return [
        reference
        for reference in references()
        if reference.data == data
        and subset in (None, reference.subset)
        and set(machine_types) & set(reference.values)
    ]
