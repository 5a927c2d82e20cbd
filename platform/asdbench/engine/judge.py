"""The judge: scores of test clips joined with their labels, section by section.

It imports no system and nothing that does, so that it can run in a process of its own, in which no system has
replaced a function (see `asdbench.driver.judge_process`).
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.result_record import AlarmCount, SectionMetrics
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import IN_DOMAIN, Rule, decision_metrics, section_half_widths, section_metrics


class NoLabels(InputError):
    """Scores that cannot be judged, since no test clip has a label: an evaluation subset's."""


class JudgeRequest(msgspec.Struct, frozen=True):
    """Scores to judge.

    Attributes
    ----------
    home, data : the data home, and the name of the data set
    machine_type, subset : whose test clips have scores
    clip_ids, scores : of the test clips
    thresholds : decision threshold by method
    """

    home: str
    data: str
    machine_type: str
    subset: str
    clip_ids: list[int]
    scores: list[float]
    thresholds: dict[str, float]

    @classmethod
    def from_scores(
        cls,
        data: DataSet,
        machine_type: str,
        subset: str,
        scores: pl.DataFrame,
        thresholds: Mapping[str, float],
    ) -> "JudgeRequest":
        """Return the request to judge what `asdbench.engine.evaluation.anomaly_scores` gives."""
        tested = scores.filter(pl.col("use") == "test")
        ids, values = tested["clip_id"].to_list(), tested["score"].to_list()
        home = str(data.workspace.home.resolve())
        return cls(home, data.name, machine_type, subset, ids, values, dict(thresholds))


class JudgeAnswer(msgspec.Struct, frozen=True):
    """The metrics by section, or the message of an error and whether it is `NoLabels`."""

    sections: dict[str, SectionMetrics] = {}
    message: str = ""
    has_no_labels: bool = False


Judge = Callable[[JudgeRequest], dict[str, SectionMetrics]]


def judge(request: JudgeRequest) -> dict[str, SectionMetrics]:
    """Return the metrics by section.

    Raises
    ------
    NoLabels
        No test clip of the machine type in the subset has a known label.
    InputError
        The labels allow no metric.
    """
    data = catalog.load(Workspace.from_home(Path(request.home)), request.data)
    judged = with_labels(request, data)
    return {
        section: judge_section(rows, request.thresholds, data.rule) for section, rows in by_section(judged)
    }


def serve() -> None:
    """Judge the requests on standard input, a line of JSON each, until it ends."""
    for line in sys.stdin.buffer:
        try:
            answer = JudgeAnswer(judge(msgspec.json.decode(line, type=JudgeRequest)))
        except InputError as error:
            answer = JudgeAnswer(message=str(error), has_no_labels=isinstance(error, NoLabels))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


def labeled_clips(data: DataSet, *, subset: str | None = None) -> pl.DataFrame:
    """Return the rows of the clip table whose label is known, with the label in ``anomaly``."""
    clips = data.clips if subset is None else data.clips.filter(pl.col("subset") == subset)
    return clips.join(catalog.truth(data), on="clip_id").sort("clip_id")


def with_labels(request: JudgeRequest, data: DataSet) -> pl.DataFrame:
    """Return the labeled clips that have scores; :class:`NoLabels` where there are none."""
    scores = pl.DataFrame(
        {"clip_id": request.clip_ids, "score": request.scores},
        schema={"clip_id": pl.Int64, "score": pl.Float64},
    )
    judged = labeled_clips(data, subset=request.subset).join(scores, on="clip_id").sort("clip_id")
    if judged.is_empty():
        raise NoLabels(
            f"no test clip of machine type {request.machine_type!r} of data set "
            f"{request.data!r}{data.suffix(request.subset)} has a known label, so its scores cannot "
            f"be judged"
        )
    return judged


def by_section(judged: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each section with its rows, sorted."""
    for (section,), rows in sorted(judged.group_by("section"), key=lambda item: str(item[0])):
        yield str(section), rows


def official(rows: pl.DataFrame, rule: Rule) -> dict[str, float]:
    """Return the official metrics of a section."""
    return _floats(section_metrics(*_arrays(rows), rule=rule))


def judge_section(rows: pl.DataFrame, thresholds: Mapping[str, float], rule: Rule) -> SectionMetrics:
    """Return the metrics of a section, from its labeled clips with a ``score``."""
    scores, anomalous, target = _arrays(rows)
    return SectionMetrics(
        official=official(rows, rule),
        in_domain=_in_domain(scores, anomalous, target) if rule.domains else {},
        decisions={
            method: _floats(decision_metrics(scores > threshold, anomalous, target, rule=rule))
            for method, threshold in thresholds.items()
        },
        false_alarms={method: _false_alarms(rows, limit) for method, limit in thresholds.items()},
        half_width=_floats(
            section_half_widths(
                scores, anomalous, target, rule=rule, scale="textbook", groups=rows["recording"].to_list()
            )
        ),
        clips=int(np.size(scores)),
    )


def _false_alarms(rows: pl.DataFrame, limit: float) -> dict[str, AlarmCount]:
    """Return the false alarms among the normal clips of each domain."""
    normal = rows.filter(~pl.col("anomaly")).with_columns(pl.col("domain").fill_null("source"))
    return {
        str(domain): AlarmCount(int((of_domain["score"] > limit).sum()), of_domain.height)
        for (domain,), of_domain in sorted(normal.group_by("domain"), key=lambda item: str(item[0][0]))
    }


def _floats(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as Python's floats, as JSON gives them back."""
    return {name: float(value) for name, value in metrics.items()}


def _arrays(rows: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return score, whether it is an anomaly, and whether it is of the target domain, of each clip."""
    target = (rows["domain"] == "target").fill_null(False).to_numpy()
    return rows["score"].to_numpy(), rows["anomaly"].to_numpy(), target


def _in_domain(
    scores: NDArray[np.float64], anomalous: NDArray[np.bool_], target: NDArray[np.bool_]
) -> dict[str, float]:
    """Return the metrics of each domain that has normal clips and anomalies of its own."""
    metrics: dict[str, float] = {}
    for domain in (False, True):
        mask = target == domain
        if mask.any() and 0 < anomalous[mask].sum() < mask.sum():
            metrics |= section_metrics(scores[mask], anomalous[mask], target[mask], rule=IN_DOMAIN)
    return _floats(metrics)
