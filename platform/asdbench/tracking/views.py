"""How MLflow's pages open: views of the runs table and of the charts, as tags of an experiment.

Idea: without a view, MLflow's runs table shows no metric at all, and sorting it by one mixes seeds with rows.
A view is a tag ``mlflow.sharedViewState.<key>`` that the page's address selects with ``viewStateShareKey``.
Its value is JSON with the name of the view and the state of the page: compressed JSON in base64.

Source: MLflow 3.17, ``ExperimentPageUIState`` and ``ExperimentPageSearchFacetsState`` of its web page.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence

from asdbench.tracking.records import KIND

NOTE = "mlflow.note.content"
LEADERBOARD, SEARCHES, TRIALS = "leaderboard", "searches", "trials"  # keys of the views
_TAG = "mlflow.sharedViewState."
_CREATED_MS = 1_767_225_600_000  # a fixed time, so that an unchanged view is an unchanged tag
_CHARTED = "Official score"
_NAME_COLUMN = "attributes.`Run Name`"
_LAST_COLUMNS = ("attributes.`Dataset`", "runDateAndNestInfo", "duration")

ROW_COLUMNS = (
    "official_score",
    "official_score_std",
    "interval_low",
    "interval_high",
    "{metrics}",
    "score_in_search",
    "seeds",
    "parameters_m",
    "gmacs_per_clip",
    "training_min",
)


_WIDTHS = {
    "official_score": 115,
    "official_score_std": 140,
    "interval_low": 95,
    "interval_high": 100,
    "score_in_search": 115,
    "seeds": 65,
    "parameters_m": 110,
    "gmacs_per_clip": 125,
    "training_min": 100,
}
_NO_WIDTHS: Mapping[str, int] = {}


def leaderboard_views(metrics: Sequence[str]) -> dict[str, str]:
    """Return the tags with the view of a leaderboard; ``metrics`` are those of the data set's rule."""
    columns = [name for column in ROW_COLUMNS for name in (metrics if column == "{metrics}" else [column])]
    view = _view(
        "Leaderboard",
        kind="row",
        order_by="official_score",
        metrics=columns,
        tags=["asdbench.preset", "asdbench.tuned", "asdbench.chosen_on_labels"],
        widths=_WIDTHS | dict.fromkeys(metrics, 95),
        charts=[_bar("official_score")],
    )
    return {_TAG + LEADERBOARD: view}


def search_views() -> dict[str, str]:
    """Return the tags with the views of searches and of their trials."""
    searches = _view(
        "Searches",
        kind="search",
        order_by="best_score",
        metrics=["best_score", "default_score", "trials_complete", "trials_pruned", "trials_failed"],
        tags=["asdbench.protocol"],
        charts=[_line("best_score"), _line("trials_complete")],
    )
    trials = _view(
        "Trials",
        kind="trial",
        order_by="score",
        metrics=["score"],
        tags=["asdbench.system", "asdbench.trial", "asdbench.default"],
        charts=[_line("score")],
    )
    return {_TAG + SEARCHES: searches, _TAG + TRIALS: trials}


def _view(
    name: str,
    *,
    kind: str,
    order_by: str,
    metrics: Sequence[str],
    tags: Sequence[str],
    charts: Sequence[dict[str, object]],
    widths: Mapping[str, int] = _NO_WIDTHS,
) -> str:
    """Return the value of a view's tag: runs of one kind, sorted by a metric, the best first."""
    shown = [f"metrics.`{metric}`" for metric in metrics] + [f"tags.`{tag}`" for tag in tags]
    state = {
        "selectedColumns": shown,
        "columnOrder": [_NAME_COLUMN, *shown, *_LAST_COLUMNS],
        "columnWidths": {
            _NAME_COLUMN: 330,
            **{f"metrics.`{metric}`": width for metric, width in widths.items()},
        },
        "searchFilter": f"tags.`{KIND}` = '{kind}'",
        "orderByKey": f"metrics.`{order_by}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsHiddenMode": "SHOWALL",
        "runsVisibilityMap": {},
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "compareRunSections": [_section(_CHARTED)],
        "compareRunCharts": list(charts),
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    return json.dumps({"name": name, "createdAt": _CREATED_MS, "state": f"deflate;{packed}"})


def _section(name: str) -> dict[str, object]:
    return {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
    }


def _bar(metric: str) -> dict[str, object]:
    return {
        "type": "BAR",
        "uuid": f"bar {metric}",
        "metricSectionId": _CHARTED,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metric,
        "runsCountToCompare": 20,
        "displayName": metric,
    }


def _line(metric: str) -> dict[str, object]:
    return {
        "type": "LINE",
        "uuid": f"line {metric}",
        "metricSectionId": _CHARTED,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "runsCountToCompare": 20,
        "displayName": metric,
        "xAxisKey": "step",
        "useGlobalXaxisKey": False,
    }
