"""The jobs of a trial, and the scores that they are judged by."""

from collections.abc import Mapping, Sequence
from typing import Any

from asdbench import registry
from asdbench.engine.evaluation import judge_sections
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.metrics import Rule, official_score
from asdbench.search.studies import Study


def jobs_with(
    study: Study,
    settings: Mapping[str, Any],
    machine_types: Sequence[str],
    *,
    seeds: Sequence[int] | None = None,
) -> dict[str, list[ResolvedJob]]:
    """Return the jobs of a study's system with some settings, by machine type, one for each seed.

    The default of ``seeds`` are those of the study.
    """
    configured = registry.configure(study.system, dict(settings))
    return {
        machine_type: [
            ResolvedJob.from_configured(
                configured, study.data, machine_type, seed=seed, pseudo_anomaly_data=study.pseudo_anomaly_data
            )
            for seed in (study.seeds if seeds is None else seeds)
        ]
        for machine_type in machine_types
    }


def section_metrics_per_seed(jobs: Sequence[ResolvedJob], store: JobStore) -> list[list[Mapping[str, float]]]:
    """Return the metrics of the sections of a machine type, for each of its jobs: one a seed."""
    return [list(judge_sections(resolved, store, subset="dev").values()) for resolved in jobs]


def mean_official_score(judged: Sequence[Sequence[Sequence[Mapping[str, float]]]], *, rule: Rule) -> float:
    """Return the official score over machine types (`section_metrics_per_seed` each), the mean over seeds."""
    scores = official_scores(judged, rule=rule)
    return sum(scores) / len(scores)


def official_scores(judged: Sequence[Sequence[Sequence[Mapping[str, float]]]], *, rule: Rule) -> list[float]:
    """Return the official score over machine types (`section_metrics_per_seed` each) with each seed."""
    return [
        official_score([metrics for sections in of_seed for metrics in sections], rule=rule)
        for of_seed in zip(*judged, strict=True)
    ]
