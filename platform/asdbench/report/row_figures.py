"""Figures of one row of the leaderboard, for its run in MLflow and for the report."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from asdbench.data.sets.catalog import DataSet
from asdbench.engine.job_store import JobStore
from asdbench.engine.task_records import TrainingRecord
from asdbench.metrics import DEFAULT_THRESHOLD, Rule
from asdbench.metrics.roc import BoolArray, FloatArray
from asdbench.report.figures.scores import (
    Curve,
    Decisions,
    DomainScores,
    ScoredType,
    decisions,
    roc_curves,
    roc_heights,
    score_histograms,
)
from asdbench.report.figures.training import LearningCurve, learning_curves
from asdbench.report.rendering import Row
from asdbench.report.row_scores import TypeScores, row_jobs, row_trainings, type_scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CURVES = 12  # losses and monitors shown of a training


def row_figures(
    row: Row,
    data: DataSet,
    store: JobStore,
    *,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
) -> dict[str, "Figure"]:
    """Return the figures of a leaderboard row by name.

    Parameters
    ----------
    row
        A row of `asdbench.report.leaderboard.rows`, for one machine type or for all. A row without a complete
        seed, or a published one, has no figures.
    data, store
        The data set of the row, and the store with its scores.
    subset
        ``"dev"`` or ``"eval"``, as for the row; by default all labeled test clips.
    threshold
        Method of the decision threshold.

    Returns
    -------
    dict of matplotlib.figure.Figure
        ``"roc"``, ``"histograms"`` (of the first seed) and, of types with thresholds, ``"decisions"`` by
        machine type; for each trained system ``"learning_curves_<system>"``. Save one with
        ``figure.savefig("roc.png")``.

    Raises
    ------
    DamagedFileError
        A stored file cannot be read.
    """
    jobs = row_jobs(row, data)
    scored = type_scores(jobs, data, store, subset=subset, threshold=threshold)
    if not scored:
        return {}
    figures = {
        "roc": roc_curves(
            {of_type.machine_type: domain_curves(of_type, data.rule) for of_type in scored},
            max_fpr=data.rule.max_fpr,
        ),
        "histograms": score_histograms([histogram_of(of_type) for of_type in scored]),
    }
    decided = [decision_counts(of_type) for of_type in scored if of_type.has_thresholds]
    if decided:
        figures["decisions"] = decisions(decided)
    for name, curves in loss_curves(row_trainings(jobs, store)).items():
        figures[f"learning_curves_{name}"] = learning_curves(curves)
    return figures


def domain_curves(scored: TypeScores, rule: Rule) -> list[Curve]:
    """Return the ROC curve of all clips and, by the rule, those of each domain."""
    curves = [mean_curve("all clips", scored, np.ones_like(scored.anomalous))]
    for domain in rule.domains:
        in_domain = scored.domain(domain)
        clips = in_domain | scored.anomalous if rule.anomalies == "both domains" else in_domain
        if (in_domain & ~scored.anomalous).any() and scored.anomalous[clips].any():
            curves.append(mean_curve(f"normal: {domain}", scored, clips))
    return curves


def mean_curve(label: str, scored: TypeScores, clips: BoolArray) -> Curve:
    """Return the mean over seeds and sections of the ROC curves of some clips of a machine type."""
    heights: list[FloatArray] = []
    sections = scored.clips["section"].to_numpy()
    for section in np.unique(sections):
        of_section = clips & (sections == section)
        anomalous = scored.anomalous[of_section]
        if 0 < anomalous.sum() < anomalous.size:
            heights += [roc_heights(scores[of_section], anomalous) for scores in scored.scores]
    return Curve(label, np.mean(heights, axis=0))


def histogram_of(scored: TypeScores) -> ScoredType:
    """Return what a histogram shows: the scores of the first seed, by domain where there are domains."""
    masks = {name: scored.domain(name) for name in ("source", "target")}
    domains = [
        DomainScores(name, scored.scores[0][mask], scored.anomalous[mask])
        for name, mask in masks.items()
        if mask.any()
    ]
    whole = [DomainScores("all", scored.scores[0], scored.anomalous)]
    limit = float(scored.thresholds[0]) if scored.has_thresholds else None
    return ScoredType(scored.machine_type, domains or whole, limit)


def decision_counts(scored: TypeScores) -> Decisions:
    """Return the numbers of decisions on a machine type, summed over seeds."""
    decided, anomalous = scored.decided, np.broadcast_to(scored.anomalous, scored.scores.shape)
    return Decisions(
        scored.machine_type,
        hits=int((decided & anomalous).sum()),
        misses=int((~decided & anomalous).sum()),
        false_alarms=int((decided & ~anomalous).sum()),
        rejections=int((~decided & ~anomalous).sum()),
    )


def loss_curves(
    trainings: Mapping[tuple[str, int, str], TrainingRecord],
) -> dict[str, dict[str, Sequence[LearningCurve]]]:
    """Return the learning curves by trained system and by loss; the names of stages where there are several.

    ``trainings`` are those of `asdbench.report.row_scores.row_trainings`. Of very many losses the first are
    returned.
    """
    curves: dict[str, dict[str, list[LearningCurve]]] = {}
    for (system, _, _), record in trainings.items():
        of_system = curves.setdefault(system, {})
        stages = list(dict.fromkeys(point.stage for point in record.curve))
        for stage in stages:
            points = [point for point in record.curve if point.stage == stage]
            epochs = [point.epoch for point in points]
            for loss in dict.fromkeys(name for point in points for name in point.losses):
                name = f"{stage}: {loss}" if len(stages) > 1 else loss
                values = [point.losses[loss] for point in points if loss in point.losses]
                of_system.setdefault(name, []).append(LearningCurve(epochs[: len(values)], values))
    return {
        system: dict(list(of_system.items())[:_MOST_CURVES])
        for system, of_system in curves.items()
        if of_system
    }
