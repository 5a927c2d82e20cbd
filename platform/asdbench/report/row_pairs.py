"""The difference of two rows of the leaderboard, on each machine type and on all of them.

Idea: both rows are judged on the same clips and seeds. The same resampled clips, or recordings, serve both,
so that what is difficult for both cancels (`asdbench.metrics.bootstrap`, `asdbench.metrics.resampled`). A
published result has at most a score for each machine type; its difference has neither interval nor p-value.

Conventions: a line is a dict of fractions between 0 and 1; a difference is the second row's score minus the
first's. Equal input gives equal lines: the seed of the generator is fixed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.commands import run_command
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError
from asdbench.metrics.bootstrap import bootstrap, few_recordings, resampled_units
from asdbench.metrics.resampled import Resampled
from asdbench.report.imported_results import row_tables
from asdbench.report.leaderboard import row_key
from asdbench.report.rendering import Row
from asdbench.report.row_scores import row_jobs
from asdbench.report.row_selectors import label
from asdbench.report.score_intervals import BOOTSTRAP_SEED, RunTables, run_tables, section_scores

ALL = "all"  # machine type of the line over all machine types
TypeScores = Mapping[tuple[str, ...], Mapping[str, float]]
"""The official scores of rows by `key_of_row` and machine type."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """How pairs of rows are compared.

    Attributes
    ----------
    data, store : the data set, and the store with the scores
    subset : the judged subset
    type_scores : of the rows by machine type, for pairs with a published row
    seeds : the seeds to compare; by default those that both rows have
    resamples, confidence : number of bootstrap resamples, and confidence of the intervals
    """

    data: DataSet
    store: JobStore
    subset: str
    type_scores: TypeScores
    seeds: Sequence[int] | None = None
    resamples: int = 10_000
    confidence: float = 0.95

    def lines(self, first: Row, second: Row) -> list[Row]:
        """Return a line for each machine type, and one for all of them.

        Raises
        ------
        InputError
            The rows have no seed in common, or lack a requested one; the labels do not suffice for the
            metrics; ``resamples`` or ``confidence`` is out of range.
        """
        if is_published(first) or is_published(second):
            return self._published(first, second)
        seeds = common_seeds(first, second, self.seeds, self.data)
        tables = [self._tables(row, seeds) for row in (first, second)]
        sections = section_scores(tables)
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        overall, by_type = bootstrap(sections, generator, rule=self.data.rule, resamples=self.resamples)
        common: Row = {
            "seeds": seeds,
            "runs": min(len(of_row) for of_row in tables),
            "resampled": resampled_units(sections),
            "few_recordings": few_recordings(sections),
        }
        of_types = (*by_type.items(), (ALL, overall))
        return [self._line(name, resampled) | common for name, resampled in of_types]

    def _tables(self, row: Row, seeds: Sequence[int]) -> list[RunTables]:
        if row.get("imported"):
            tables = row_tables(row, self.data, self.subset)
            return [tables[row["seeds"].index(seed)] for seed in seeds] if row["seeds"] else list(tables)
        jobs = row_jobs(row, self.data)
        return run_tables([jobs[seed] for seed in seeds], self.store, subset=self.subset)

    def _line(self, machine_type: str, resampled: Resampled) -> Row:
        confidence = self.confidence
        score_a, score_b = (float(score) for score in resampled.observed)
        ends_a, ends_b = (resampled.interval(place, confidence=confidence) for place in (0, 1))
        ends = resampled.difference_interval(0, 1, confidence=confidence)
        like_these = resampled.difference_interval_like_these(0, 1, confidence=confidence)
        p_value = resampled.p_value(0, 1) if resampled.has_enough_seeds(0, 1) else None
        return _line(machine_type, score_a, score_b, resampled.difference(0, 1), p_value) | _ends(
            score_a=ends_a, score_b=ends_b, difference=ends, difference_like_these=like_these
        )

    def _published(self, first: Row, second: Row) -> list[Row]:
        scores = [self.type_scores.get(key_of_row(row), {}) for row in (first, second)]
        pairs = {name: (score, scores[1][name]) for name, score in scores[0].items() if name in scores[1]}
        measured = next((row for row in (first, second) if not is_published(row)), first)
        common = {"seeds": list(measured["seeds"]), "runs": None, "resampled": None, "few_recordings": None}
        lines = [
            _line(name, *of_type, _difference(*of_type)) | _ends() | common
            for name, of_type in (*pairs.items(), (ALL, (first["official_score"], second["official_score"])))
        ]
        if lines[-1]["difference"] is None and not pairs:
            raise InputError(
                f"{label(first)!r} and {label(second)!r} have no score of the same machine types; choose "
                f"other rows"
            )
        return lines


def is_published(row: Row) -> bool:
    """Return whether a row is a published result."""
    return row.get("reference") is not None


def key_of_row(row: Row) -> tuple[str, ...]:
    """Return what distinguishes a row, measured or published, also among rows of single machine types."""
    return *row_key(row), str(row.get("reference"))


def type_scores(rows: Sequence[Row]) -> TypeScores:
    """Return the official scores of rows of single machine types."""
    scores: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        scores.setdefault(key_of_row(row), {})[row["machine_type"]] = row["official_score"]
    return scores


def common_seeds(first: Row, second: Row, seeds: Sequence[int] | None, data: DataSet) -> list[int]:
    """Return the seeds that both rows have or, of these, the requested ones.

    Raises :class:`InputError` if a row has none, lacks a requested one, or there is none in common.
    """
    known = [row for row in (first, second) if row["seeds"] or not row.get("imported")]
    for row in known:
        if not row["seeds"]:
            raise InputError(
                f"{label(row)!r} has no score over all machine types{_cure(row, data, seeds or (0,))}"
            )
        missing = [seed for seed in dict.fromkeys(seeds or ()) if seed not in row["seeds"]]
        if missing:
            raise InputError(
                f"{label(row)!r} has no results on all machine types with {_seed_words(missing)}; it has "
                f"{_seed_words(row['seeds'])}{_cure(row, data, missing)}"
            )
    if len(known) < 2:  # an imported result of one run, whose seed is not known
        return list(dict.fromkeys(seeds or (known[0]["seeds"] if known else ())))
    common = [seed for seed in seeds or first["seeds"] if seed in second["seeds"]]
    if not common:
        raise InputError(
            f"{label(first)!r} has {_seed_words(first['seeds'])}, and {label(second)!r} has "
            f"{_seed_words(second['seeds'])}: none in common{_cure(second, data, first['seeds'])}"
        )
    return list(dict.fromkeys(common))


def _seed_words(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _cure(row: Row, data: DataSet, seeds: Sequence[int]) -> str:
    """Return the command that gives a row results with some seeds; a search's row has none."""
    if row["tuned"] or row.get("imported"):
        return ""
    settings = dict(row["settings"])
    pseudo_anomaly_data = settings.pop("pseudo_anomaly_data", None)
    command = run_command(
        [row["system"]], data.name, seeds=seeds, settings=settings, pseudo_anomaly_data=pseudo_anomaly_data
    )
    return f"; run {command!r}"


def _line(
    machine_type: str,
    score_a: float | None,
    score_b: float | None,
    difference: float | None,
    p_value: float | None = None,
) -> Row:
    return {
        "machine_type": machine_type,
        "score_a": score_a,
        "score_b": score_b,
        "difference": difference,
        "p_value": p_value,
    }


def _ends(**intervals: tuple[float, float] | None) -> Row:
    ends: Row = {}
    for name in ("score_a", "score_b", "difference", "difference_like_these"):
        ends[f"{name}_low"], ends[f"{name}_high"] = intervals.get(name) or (None, None)
    return ends


def _difference(score_a: float | None, score_b: float | None) -> float | None:
    return None if score_a is None or score_b is None else score_b - score_a
