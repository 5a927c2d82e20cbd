"""Published results, shown next to measured ones.

Idea: a published result is shown with its source and its tier. ``recomputed`` results have values for each
machine type, from which the score follows; ``published`` ones have a printed score only. None is ever marked
as the best, and each only appears next to results on the machine types that it covers. The values are in
``published_results.csv`` next to this module, one per row: the official score of all machine types (``ALL``),
or a metric of one.

Conventions: values are fractions, with the digits of the source. A data set that is registered under the name
of a challenge is taken for the data of that challenge, as is one with its layout, rule, sections and machine
types. ``hmean_of_three`` is the official score of one machine type; ``score_other_rule`` is a score that
another rule gives.

Sources: each row names its own. Where a source prints both a score and the values of the machine types, the
score follows from the values within rounding; the test of this module lists the exceptions by name.

Known issues: all but one of the values that Zhang and Li (technical report, DCASE 2023 Challenge Task 2)
publish for their own systems are on the grid of AUCs computed with the anomalies of one domain only, and
their averages are up to 1.4 percentage points below the harmonic mean of these values. They are not
comparable with values of the official rule, and have no rank.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import polars as pl

from asdbench.data.sets.challenges import CHALLENGES, Challenge
from asdbench.metrics import summary

if TYPE_CHECKING:
    from asdbench.data.sets.catalog import DataSet

_ALL = "ALL"
_SCORES = ("official_score", "score_other_rule")  # of all machine types
_TYPE_SCORE = "hmean_of_three"


@dataclass(frozen=True)
class Reference:
    """A published result.

    Attributes
    ----------
    system
        The name in the source.
    data, subset
        The challenge, and its subset.
    sources
        Where its score and its values are published.
    printed_score
        The score that the source prints, a fraction; ``None`` if it prints none.
    is_official
        Whether all of it was computed by the official rule of the challenge.
    values
        The metrics of the rule by machine type, fractions; empty if none are published.
    type_scores
        The official score by machine type, where a source prints it in place of the metrics.
    """

    system: str
    data: str
    subset: str
    sources: tuple[str, ...]
    printed_score: float | None
    is_official: bool
    values: dict[str, dict[str, float]] = field(hash=False)
    type_scores: dict[str, float] = field(hash=False)

    @property
    def tier(self) -> str:
        """``"recomputed"`` if its score follows from the metrics of machine types, else ``"published"``."""
        return "recomputed" if self.values else "published"

    @property
    def source(self) -> str:
        """The sources as one text."""
        return "; ".join(self.sources)

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types that it covers: those with values, else all of the subset."""
        of_challenge = CHALLENGES[self.data].subsets[self.subset].machine_types
        return tuple(self.values) or of_challenge

    def means(self, machine_types: Sequence[str]) -> dict[str, float]:
        """Return ``score`` over the given machine types and, if recomputed, the mean of each metric.

        Empty if it has no score over exactly these: not all have values, or a printed score is of others.

        >>> baseline, *_ = references_for("dcase2023", ["fan"])
        >>> round(baseline.means(["fan"])["score"], 4), baseline.means(["pump"])
        (0.5259, {})
        """
        if self.values:
            covered = set(machine_types) <= self.values.keys()
            values = [self.values[machine_type] for machine_type in machine_types] if covered else []
            return summary(values, rule=CHALLENGES[self.data].rule) if values else {}
        if self.printed_score is None or set(machine_types) != set(self.machine_types):
            return {}
        return {"score": self.printed_score}

    def type_score(self, machine_type: str) -> float | None:
        """Return the official score of one machine type, ``None`` if none is published."""
        if machine_type in self.type_scores:
            return self.type_scores[machine_type]
        return self.means([machine_type])["score"] if machine_type in self.values else None


@cache
def references() -> tuple[Reference, ...]:
    """Return all published results.

    >>> sorted({result.data for result in references()})
    ['dcase2020', 'dcase2022', 'dcase2023', 'dcase2024', 'dcase2025', 'dcase2026']
    """
    text = (resources.files("asdbench.report") / "published_results.csv").read_text(encoding="utf-8")
    by_result: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in csv.DictReader(text.splitlines()):
        by_result.setdefault((row["challenge"], row["subset"], row["system"]), []).append(row)
    return tuple(_reference(*key, rows) for key, rows in by_result.items())


def _reference(data: str, subset: str, system: str, rows: Sequence[dict[str, str]]) -> Reference:
    """Return the result whose values the rows of the table are."""
    printed = {row["metric"]: row for row in rows if row["machine_type"] == _ALL}
    values: dict[str, dict[str, float]] = {}
    type_scores = {}
    for row in rows:
        if row["metric"] == _TYPE_SCORE:
            type_scores[row["machine_type"]] = float(row["value"])
        elif row["machine_type"] != _ALL:
            values.setdefault(row["machine_type"], {})[row["metric"]] = float(row["value"])
    scores = [float(printed[name]["value"]) for name in _SCORES if name in printed]
    sources = dict.fromkeys(row["source"] for row in [*printed.values(), *rows])
    is_official = "score_other_rule" not in printed
    score = scores[0] if scores else None
    return Reference(system, data, subset, tuple(sources), score, is_official, values, type_scores)


def references_for(data: str, machine_types: Sequence[str], *, subset: str | None = None) -> list[Reference]:
    """Return the published results on the data of a challenge that cover any of the machine types.

    >>> sorted({result.subset for result in references_for("dcase2023", ["Vacuum"])})
    ['eval']
    """
    return [
        reference
        for reference in references()
        if reference.data == data
        and subset in (None, reference.subset)
        and set(machine_types) & set(reference.machine_types)
    ]


def challenges_of(data: "DataSet") -> list[str]:
    """Return the challenges that the recordings of a data set may be of.

    That is the one of its name or, for another name, each with its layout, its rule and, in every subset that
    the data set has, the same sections of the same machine types.
    """
    if data.name in CHALLENGES:
        return [data.name]
    return [name for name, challenge in CHALLENGES.items() if _is_like(data, challenge)]


def _is_like(data: "DataSet", challenge: Challenge) -> bool:
    if data.layout != challenge.layout.name or data.rule != challenge.rule:
        return False
    return all(
        subset in challenge.subsets
        and _sections(data, subset)
        == {name: frozenset(sections) for name, sections in challenge.subsets[subset].sections.items()}
        for subset in data.subsets()
    )


def _sections(data: "DataSet", subset: str) -> dict[str, frozenset[str]]:
    """Return the sections of each machine type's test clips in a subset."""
    tested = data.clips.filter(pl.col("split") == "test", pl.col("subset") == subset)
    grouped = tested.group_by("machine_type").agg(pl.col("section").unique())
    return {machine_type: frozenset(sections) for machine_type, sections in grouped.iter_rows()}
