"""The views are what MLflow's page reads; tests/browser opens them."""

import base64
import json
import zlib
from typing import Any

from asdbench.tracking.views import leaderboard_views, search_views


def state_of(tag: str) -> dict[str, Any]:
    value = json.loads(tag)["state"]
    kind, _, packed = value.partition(";")
    assert kind == "deflate"
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def test_the_leaderboard_shows_rows_only_the_best_first() -> None:
    [(name, tag)] = leaderboard_views(("auc_source", "auc_target", "pauc")).items()
    assert name == "mlflow.sharedViewState.leaderboard"
    assert json.loads(tag)["name"] == "Leaderboard"
    assert len(tag) < 20_000
    state = state_of(tag)
    assert state["searchFilter"] == "tags.`asdbench.kind` = 'row'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`official_score`", False)
    assert state["selectedColumns"][:7] == [
        "metrics.`official_score`",
        "metrics.`official_score_std`",
        "metrics.`interval_low`",
        "metrics.`interval_high`",
        "metrics.`auc_source`",
        "metrics.`auc_target`",
        "metrics.`pauc`",
    ]
    assert state["columnOrder"][1:8] == state["selectedColumns"][:7]
    assert [chart["metricKey"] for chart in state["compareRunCharts"]] == ["official_score"]


def test_the_columns_are_those_of_the_rule() -> None:
    [tag] = leaderboard_views(("auc", "pauc")).values()
    assert "metrics.`auc`" in state_of(tag)["selectedColumns"]
    assert "metrics.`auc_source`" not in state_of(tag)["selectedColumns"]


def test_searches_and_trials_have_views_with_curves() -> None:
    views = {name: state_of(tag) for name, tag in search_views().items()}
    searches = views["mlflow.sharedViewState.searches"]
    trials = views["mlflow.sharedViewState.trials"]
    assert (searches["orderByKey"], trials["orderByKey"]) == ("metrics.`best_score`", "metrics.`score`")
    assert searches["searchFilter"] != trials["searchFilter"]
    assert {chart["type"] for view in views.values() for chart in view["compareRunCharts"]} == {"LINE"}


def test_an_unchanged_view_is_an_unchanged_tag() -> None:
    assert leaderboard_views(("auc",)) == leaderboard_views(("auc",))
    assert search_views() == search_views()
