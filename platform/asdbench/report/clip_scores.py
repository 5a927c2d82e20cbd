"""The anomaly scores of a system's test clips, with decisions and, where they are known, labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.decision_thresholds import decision_threshold
from asdbench.engine.evaluation import anomaly_scores, labeled_clips
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError, unknown_name
from asdbench.metrics import DEFAULT_THRESHOLD, THRESHOLDS
from asdbench.report.formatting import MISSING, format_number
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row, numeric
from asdbench.report.stored_runs import StoredRunOptions, scored_jobs

_CLIP_COLUMNS = ("path", "machine_type", "section", "domain", "subset")


@dataclass(frozen=True, eq=False)
class Scores(Report):
    """The anomaly scores of a system's test clips.

    Printed, it is a table of the machine types; ``frame`` and ``rows`` have the clips.

    Attributes
    ----------
    system, data, seed : the run
    clips : one row for each test clip: ``path`` (relative to the data set's folder), ``machine_type``,
        ``section``, ``domain``, ``subset``, ``label`` (``"normal"`` or ``"anomaly"``, null where it is not
        known), ``score`` (higher is more anomalous), ``threshold`` and ``decision`` (``"anomaly"``
        if the score is above the threshold, else ``"normal"``), both null where normal clips are too few
    thresholds : decision threshold of each machine type, from normal clips only
    """

    system: str
    data: str
    seed: int
    clips: pl.DataFrame
    thresholds: Mapping[str, float | None]

    @property
    def frame(self) -> pl.DataFrame:
        """The clips."""
        return self.clips

    @property
    def rows(self) -> Sequence[Row]:
        """The clips, one dict for each."""
        return self.clips.to_dicts()

    def tables(self) -> list[DisplayTable]:
        """Return a table with a row for each machine type."""
        return [
            DisplayTable(
                [Column("machine type"), *numeric("clips", "anomalies", "called anomalous", "threshold")],
                [DisplayRow(list(cells)) for cells in self._cells()],
                f"Scores of {self.system} on {self.data}, seed {self.seed}",
                "Anomalies: of the clips whose label is known. Called anomalous: clips above the threshold.",
            )
        ]

    def _cells(self) -> Iterator[tuple[str, ...]]:
        for machine_type, threshold in self.thresholds.items():
            clips = self.clips.filter(pl.col("machine_type") == machine_type)
            labels = clips["label"].drop_nulls()
            n_anomalies = format_number(int((labels == "anomaly").sum())) if len(labels) else MISSING
            n_called = format_number(int((clips["decision"] == "anomaly").sum()))
            cells = machine_type, format_number(clips.height), n_anomalies
            yield (
                *cells,
                *((MISSING, "too few normals") if threshold is None else (n_called, f"{threshold:.4g}")),
            )


def clip_scores(
    system: str,
    data: DataSet,
    store: JobStore,
    *,
    seed: int = 0,
    machines: Sequence[str] = (),
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    settings: StoredRunOptions | None = None,
) -> Scores:
    """Return the stored scores of a system's test clips.

    Parameters
    ----------
    system, seed, settings
        The run whose scores to return.
    data, store
        The data set that it scored, and the store that holds the scores.
    machines
        Machine types; all of the subset by default.
    subset
        ``"dev"`` or ``"eval"``; both by default.
    threshold
        Method of the decision threshold.

    Raises
    ------
    InputError
        The system, a machine type, the subset or the method does not exist, or scores are not stored.
    """
    if threshold not in THRESHOLDS:
        raise unknown_name("threshold method", threshold, THRESHOLDS)
    machine_types = _machine_types(data, machines, subset)
    jobs = scored_jobs(
        [system],
        data,
        store,
        seeds=[seed],
        machine_types=machine_types,
        settings=settings or StoredRunOptions(),
    )
    clips = _described_clips(data, subset)
    tables, thresholds = [], {}
    for machine_type, resolved in jobs[system][seed].items():
        scores = anomaly_scores(resolved, store)
        thresholds[machine_type] = limit = decision_threshold(resolved, scores, method=threshold)
        tested = scores.filter(pl.col("use") == "test").select("clip_id", "score")
        decided = tested.with_columns(threshold=pl.lit(limit, pl.Float64())).with_columns(
            decision=decided_in_words(pl.col("score"), pl.col("threshold"))
        )
        tables.append(clips.join(decided, on="clip_id").sort("path").drop("clip_id"))
    return Scores(system, data.name, seed, pl.concat(tables), thresholds)


def _machine_types(data: DataSet, machines: Sequence[str], subset: str | None) -> list[str]:
    """Return the chosen machine types, which have clips in the subset."""
    known = [name for name in data.machine_types if subset is None or subset in data.subsets(name)]
    if not known:
        raise InputError(
            f"data set {data.name!r} has test clips of the subset {' and '.join(data.subsets())} only, "
            f"and not of {subset!r}"
        )
    for machine in machines:
        if machine not in known:
            raise unknown_name(f"machine type in data set {data.name!r}:", machine, known)
    return list(dict.fromkeys(machines)) or known


def _described_clips(data: DataSet, subset: str | None) -> pl.DataFrame:
    """Return the test clips with their labels, null where these are not known."""
    labels = labeled_clips(data).select("clip_id", label=in_words(pl.col("anomaly")))
    in_subset = pl.lit(True) if subset is None else pl.col("subset") == subset
    clips = data.clips.filter((pl.col("split") == "test") & in_subset)
    return clips.select("clip_id", *_CLIP_COLUMNS).join(labels, on="clip_id", how="left")


def decided_in_words(score: pl.Expr, threshold: pl.Expr) -> pl.Expr:
    """Return the decision as `in_words` does, null where there is no threshold."""
    return pl.when(threshold.is_not_null()).then(in_words(score > threshold))


def in_words(is_anomaly: pl.Expr) -> pl.Expr:
    """Return a label or a decision as a detector gives it: ``"anomaly"`` or ``"normal"``."""
    return pl.when(is_anomaly).then(pl.lit("anomaly")).otherwise(pl.lit("normal"))
