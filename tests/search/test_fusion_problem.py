"""Many weight vectors score as each would alone, and as the ensemble with these settings."""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import labeled_clips
from asdbench.engine.job_store import JobStore
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import IN_DOMAIN, OFFICIAL, WITHOUT_DOMAINS, Rule
from asdbench.search.fusion_problem import fusion_problem
from asdbench.system import MemberScores
from tests.search.problems import CHOICES, MEMBERS, SEEDS, SMALL, ensemble, expected_score, judged, problem


@pytest.mark.parametrize("rule", [OFFICIAL, IN_DOMAIN, WITHOUT_DOMAINS, Rule(max_fpr=0.37)])
@pytest.mark.parametrize("distinct", [None, 1, 2, 4])
def test_many_weights_at_once_score_as_one_by_one(rule: Rule, distinct: int | None) -> None:
    rng = np.random.default_rng(0)
    given = problem(rng, rule=rule, distinct=distinct)
    weights = np.vstack([rng.dirichlet(np.ones(3), 140), np.eye(3), np.ones((1, 3))])
    for choice in CHOICES:
        found = given.scores(weights, choice)
        for row in (0, 1, 130, *range(140, 144)):  # in the first block and the second
            assert found[row] == pytest.approx(expected_score(given, weights[row], choice), abs=1e-12)
    only = given.scores(weights[:1], CHOICES[1], types=["valve"])[0]
    wanted = expected_score(given, weights[0], CHOICES[1], types=("valve",))
    assert only == pytest.approx(wanted, abs=1e-12)


def test_a_section_may_lack_a_domain_and_a_type_have_several_sections() -> None:
    rng = np.random.default_rng(1)
    given = problem(rng)
    fan, valve = given.sections
    source = replace(valve, target=np.zeros_like(valve.target))
    small = problem(rng, types=("fan",), clips=12).sections[0]
    given = replace(given, sections=(fan, replace(small, section="01"), source))
    weights = [(0.2, 0.3, 0.5)]
    found = given.section_metrics(weights, CHOICES[0])
    assert list(found) == [("fan", "00"), ("fan", "01"), ("valve", "00")]
    assert list(found["valve", "00"]) == ["auc_source", "pauc"]
    assert found["fan", "01"]["pauc"].shape == (2, 1)
    expected = expected_score(given, weights[0], CHOICES[0])
    assert given.scores(weights, CHOICES[0])[0] == pytest.approx(expected, abs=1e-12)


def test_clips_with_equal_contributions_tie_whatever_the_weights() -> None:
    given = problem(np.random.default_rng(2), types=("fan",), seeds=1)
    (fan,) = given.sections
    same = fan.contributions.copy()
    same[...] = same[..., :1]
    weights = np.random.default_rng(3).dirichlet(np.ones(3), 200)
    metrics = replace(given, sections=(replace(fan, contributions=same),)).section_metrics(
        weights, CHOICES[0]
    )
    assert all((values == 0.5).all() for values in metrics["fan", "00"].values())


def test_weights_may_have_any_sum() -> None:
    given = problem(np.random.default_rng(4))
    assert given.scores([(1, 2, 1)], CHOICES[0]) == given.scores([(0.25, 0.5, 0.25)], CHOICES[0])


def test_a_problem_survives_the_way_to_another_process() -> None:
    given = problem(np.random.default_rng(5))
    sent = pickle.loads(pickle.dumps(given))
    assert sent.scores([(0.2, 0.3, 0.5)], CHOICES[1]) == given.scores([(0.2, 0.3, 0.5)], CHOICES[1])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0, 1.0], r"weights have shape \(3,\); give \(n, 3\), a weight for each of a, b, c"),
        ([[1.0, 1.0]], r"weights have shape \(1, 2\)"),
        (np.empty((0, 3)), r"weights have shape \(0, 3\)"),
        ([[1, 1, 1], [0, 0, 0]], "weights 0.0,0.0,0.0 cannot be used"),
        ([[2, -1, 1]], "weights 2.0,-1.0,1.0 cannot be used; give finite weights of at least 0"),
        ([[np.nan, 1, 1]], "weights nan,1.0,1.0 cannot be used"),
    ],
)
def test_weights_that_are_none_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        problem(np.random.default_rng(0)).scores(weights, CHOICES[0])


def test_unknown_choices_and_machine_types_are_refused() -> None:
    given = problem(np.random.default_rng(0))
    with pytest.raises(InputError, match="no choice 'join=score'; did you mean 'join=scores'"):
        given.scores([(1, 1, 1)], {"join": "score"})
    with pytest.raises(InputError, match="no machine type 'valves'; did you mean 'valve'"):
        given.scores([(1, 1, 1)], CHOICES[0], types=["valves"])
    with pytest.raises(InputError, match="no machine type is given to score"):
        given.scores([(1, 1, 1)], CHOICES[0], types=[])


# From the job store


def test_scores_are_those_of_the_ensemble_with_these_settings(home: Path) -> None:
    given = fusion_problem(
        ensemble(scale="log"),
        catalog.load(Workspace.from_environment(), "tiny"),
        JobStore.from_workspace(Workspace.from_environment()),
        seeds=[*SEEDS, 0],
    )
    assert given.members == ("multitask-mel", "baseline-mse")
    assert given.seeds == SEEDS
    assert given.choices[0] == {"join": "scores", "scale": "log"}
    assert {tuple(choice.values()) for choice in given.choices} == {
        (join, scale) for join in ("scores", "components") for scale in ("linear", "log")
    }
    found = {}
    for choice in given.choices:
        for weights in ((0.237, 0.763), (3.0, 1.0)):
            (score,) = given.scores([weights], choice)
            assert score == pytest.approx(judged({"weights": weights, **choice}), abs=1e-12)
            found[weights, *choice.values()] = score
    assert len(set(found.values())) > 3  # weights and choices matter
    assert given.scores([given.equal_weights], {"join": "scores", "scale": "linear"}) == pytest.approx(
        judged({}), abs=1e-12
    )


def test_members_that_have_not_run_are_named_with_what_runs_them(home: Path) -> None:
    changed = ensemble(epochs=3)
    expected = (
        "member 'baseline-mse' of ensemble has no scores on fan of data set 'tiny' with seed 0 and these "
        r"settings; run 'asdbench run ensemble --data tiny --seeds 0 1 --set .*epochs=3.*'"
    )
    with pytest.raises(InputError, match=expected):
        fusion_problem(
            changed,
            catalog.load(Workspace.from_environment(), "tiny"),
            JobStore.from_workspace(Workspace.from_environment()),
            seeds=SEEDS,
        )
    other = registry.configure("ensemble", MEMBERS | SMALL | {"steps": 3})
    with pytest.raises(
        InputError, match=r"'asdbench run ensemble --data tiny.* --pseudo-anomalies-from tiny"
    ):
        fusion_problem(
            other,
            catalog.load(Workspace.from_environment(), "tiny"),
            JobStore.from_workspace(Workspace.from_environment()),
            seeds=[0],
            pseudo_anomaly_data="tiny",
        )


def test_only_development_labels_steer_a_search(home: Path) -> None:
    data = catalog.load(Workspace.from_environment(), "tiny")
    hidden = replace(data, clips=data.clips.with_columns(subset=pl.lit("eval")))
    with pytest.raises(InputError, match="only development labels may steer a search"):
        fusion_problem(ensemble(), hidden, JobStore.from_workspace(Workspace.from_environment()), seeds=SEEDS)
    without = replace(data, clips=data.clips.filter(pl.col("split") != "test"))
    with pytest.raises(InputError, match="no test clip of data set 'tiny' has a known label"):
        fusion_problem(
            ensemble(), without, JobStore.from_workspace(Workspace.from_environment()), seeds=SEEDS
        )
    fan = (pl.col("machine_type") == "fan") & (pl.col("split") == "test")
    partly = data.clips.with_columns(subset=pl.when(fan).then(pl.lit("eval")).otherwise("subset"))
    given = fusion_problem(
        ensemble(),
        replace(data, clips=partly),
        JobStore.from_workspace(Workspace.from_environment()),
        seeds=SEEDS,
    )
    assert given.machine_types == ("valve",)


def test_labels_that_allow_no_metric_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def labeled(data: catalog.DataSet, *, subset: str | None = None) -> pl.DataFrame:
        return labeled_clips(data, subset=subset).with_columns(anomaly=pl.lit(False))

    monkeypatch.setattr("asdbench.search.fusion_problem.labeled_clips", labeled)
    with pytest.raises(InputError, match="there is no anomaly among the 24 clips of the section"):
        fusion_problem(
            ensemble(),
            catalog.load(Workspace.from_environment(), "tiny"),
            JobStore.from_workspace(Workspace.from_environment()),
            seeds=SEEDS,
        )


def test_systems_without_weights_are_refused(home: Path) -> None:
    data, store = (
        catalog.load(Workspace.from_environment(), "tiny"),
        JobStore.from_workspace(Workspace.from_environment()),
    )
    with pytest.raises(InputError, match="'baseline-mse' has no fusion weights to search"):
        fusion_problem(registry.configure("baseline-mse"), data, store, seeds=SEEDS)
    alone = registry.configure("ensemble", {"members": "baseline-mse"})
    with pytest.raises(InputError, match="ensemble has one member, 'baseline-mse'; fusing needs"):
        fusion_problem(alone, data, store, seeds=SEEDS)
    with pytest.raises(InputError, match="no seed is given"):
        fusion_problem(ensemble(), data, store, seeds=[])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda added: {"highest": added.amax(dim=0)}, "is not the mean of its members"),
        (lambda added: {"one": added[0], "two": added[1]}, "it returns 2 components"),
    ],
)
def test_ensembles_that_do_not_score_linearly_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, parts: Any, message: str
) -> None:
    def combine(cls: type, config: Any, scores: Mapping[str, MemberScores]) -> dict[str, torch.Tensor]:
        weighted = [w * of.score for w, of in zip(config.weights, scores.values(), strict=True)]
        return parts(torch.stack(weighted))  # type: ignore[no-any-return]

    monkeypatch.setattr(registry.get("ensemble"), "combine", classmethod(combine))
    with pytest.raises(InputError, match=message):
        fusion_problem(
            ensemble(),
            catalog.load(Workspace.from_environment(), "tiny"),
            JobStore.from_workspace(Workspace.from_environment()),
            seeds=SEEDS,
        )
