"""Seeds that a search did not see: where a leaderboard row has any, only these count.

The score that made a search choose settings is the highest of many, so a part of it is luck. The settings are
scored again with fresh seeds; the score in the search is shown next to the fresh one.
"""

from collections.abc import Iterable
from typing import Protocol, TypeVar

from asdbench.engine.result_record import SearchProvenance
from asdbench.report.rendering import Row


class SeededResult(Protocol):
    """A result of a row: with a seed, and the search that chose its settings, if any did."""

    @property
    def row_key(self) -> tuple[str, str, str]:
        """What the results of a row share."""

    @property
    def seed(self) -> int:
        """The seed of the result."""

    @property
    def tuned(self) -> SearchProvenance | None:
        """The search that chose the settings."""


Result = TypeVar("Result", bound=SeededResult)


def without_seen_seeds(results: Iterable[Result]) -> list[Result]:
    """Leave out results with seeds that their search saw, from the rows that have others."""
    results = list(results)
    seen = [result.tuned is not None and result.seed in result.tuned.seeds for result in results]
    fresh = {result.row_key for result, is_seen in zip(results, seen, strict=True) if not is_seen}
    return [
        result
        for result, is_seen in zip(results, seen, strict=True)
        if not (is_seen and result.row_key in fresh)
    ]


def score_in_search(row: Row) -> float | None:
    """Return the score that made a search choose the settings of a row; ``None`` where it is of other clips.

    >>> tuned = {"search": "abc", "trials": 20, "seeds": (0,), "score": 0.7}
    >>> score_in_search({"tuned": tuned, "subset": "dev"})
    0.7
    """
    if not row.get("tuned") or row.get("subset") != "dev" or "machine_type" in row:
        return None
    score: float | None = row["tuned"].get("score")
    return score


def has_seen_seeds(row: Row) -> bool:
    """Return whether a row has seeds that the search of its settings saw."""
    return bool(row.get("tuned")) and not set(row["seeds"]).isdisjoint(row["tuned"].get("seeds", ()))
