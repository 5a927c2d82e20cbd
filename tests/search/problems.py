"""Fusion problems with their expected scores, and jobs: shared by the tests of searches."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.io.workspace import Workspace
from asdbench.metrics import OFFICIAL, Rule, official_score, section_metrics
from asdbench.search.fusion_problem import Choices, FusionProblem, SectionContributions

CHOICES = ({"join": "scores"}, {"join": "components"})
SEEDS = (0, 1)
MEMBERS = {"members": "multitask-mel,baseline-mse", "epochs": 1, "hidden": 8, "steps": 2, "n_mels": 16}
SMALL = {"width": 16, "heads": 2, "ffn": 16, "blocks": 1, "embedding": 4, "window_frames": 32}


def problem(
    rng: np.random.Generator,
    *,
    types: tuple[str, ...] = ("fan", "valve"),
    shifts: tuple[float, ...] = (1.0, 0.2, 0.4),
    seeds: int = 2,
    clips: int = 40,
    distinct: int | None = None,
    rule: Rule = OFFICIAL,
) -> FusionProblem:
    """Return a problem of random contributions; an anomaly's are higher by a member's shift.

    With ``distinct`` the contributions are whole numbers of that many values, so that many scores tie.
    """
    sections = []
    for name in types:
        anomalous, target = np.tile([False, True], clips // 2), np.arange(clips) < clips // 2
        shift = np.array(shifts)[:, None] * anomalous
        contributions = rng.normal(size=(len(CHOICES), seeds, len(shifts), clips)) + shift
        if distinct is not None:
            contributions = np.floor(contributions).clip(0, distinct - 1)
        sections.append(SectionContributions(name, "00", contributions, anomalous, target))
    members = tuple("abcdef"[: len(shifts)])
    return FusionProblem("ensemble", members, "weights", CHOICES, tuple(range(seeds)), tuple(sections), rule)


def expected_score(
    given: FusionProblem, weights: Any, choice: Choices, *, types: tuple[str, ...] | None = None
) -> float:
    """Return the score of one row of weights by the platform's own metrics."""
    place = given.choices.index(choice)
    by_seed = []
    for seed in range(len(given.seeds)):
        rows = []
        for of in given.sections:
            if of.machine_type in (types or given.machine_types):
                scores = sum(w * c for w, c in zip(weights, of.contributions[place, seed], strict=True))
                rows.append(section_metrics(scores, of.anomalous, of.target, rule=given.rule))
        by_seed.append(official_score(rows, rule=given.rule))
    return float(np.mean(by_seed))


def ensemble(**settings: Any) -> registry.Configured:
    return registry.configure("ensemble", MEMBERS | SMALL | settings)


def judged(settings: Mapping[str, Any]) -> float:
    """Return the official score by the regular path, averaged over seeds."""
    data, scores = catalog.load(Workspace.from_environment(), "tiny"), []
    for seed in SEEDS:
        rows = []
        for machine_type in data.machine_types:
            job = Job("ensemble", MEMBERS | SMALL | dict(settings), "tiny", machine_type, seed)
            record = evaluate(
                ResolvedJob.from_workspace(job, Workspace.from_environment()),
                JobStore.from_workspace(Workspace.from_environment()),
                subset="dev",
            ).record
            rows += [section.official for section in record.sections.values()]
        scores.append(official_score(rows, rule=data.rule))
    return float(np.mean(scores))


def jobs(data: DataSet, *, seeds: tuple[int, ...] = (0,), system: str = "baseline-mse") -> list[ResolvedJob]:
    configured = registry.configure(system)
    return [
        ResolvedJob(configured, data, machine_type, seed)
        for machine_type in data.machine_types
        for seed in seeds
    ]
