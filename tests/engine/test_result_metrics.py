"""Metrics of a stored result, by name."""

from pathlib import Path

import msgspec
import pytest

from asdbench.engine.evaluation import evaluate
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.result_metrics import machine_type_metrics, means_by_name, section_means
from asdbench.engine.result_record import ResultRecord
from asdbench.io.workspace import Workspace


@pytest.fixture
def record(folder: Path, store: JobStore) -> ResultRecord:
    settings = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
    job = Job("baseline-mse", settings, "tiny", "fan", 0)
    return evaluate(ResolvedJob.from_workspace(job, Workspace.from_environment()), store).record


def test_the_metrics_of_a_record_are_means_over_its_sections(record: ResultRecord) -> None:
    metrics = machine_type_metrics(record, threshold="empirical")
    [section] = record.sections.values()
    assert metrics | section_means([section.official], rule=record.rule) == metrics
    assert metrics["auc_source"] == pytest.approx(section.official["auc_source"])
    assert metrics["auc_source_half_width"] == section.half_width["auc_source"]
    assert metrics["f1_source"] == section.decisions["empirical"]["f1_source"]
    assert metrics["threshold"] == record.thresholds["empirical"].threshold
    assert metrics["normals"] == record.thresholds["empirical"].held_out["source"].normals == 9
    assert (metrics["threshold_units_source"], metrics["threshold_needed"]) == (9, 9)
    alarms = section.false_alarms["empirical"]
    assert {domain: count.normals for domain, count in alarms.items()} == {"source": 2, "target": 2}
    assert metrics["test_false_alarms_target"] == alarms["target"].false_alarms


def test_without_a_threshold_there_are_no_decisions(record: ResultRecord) -> None:
    stored = msgspec.structs.replace(record.thresholds["empirical"], threshold=None)
    [section] = record.sections.values()
    bare = msgspec.structs.replace(section, decisions={}, false_alarms={})
    metrics = machine_type_metrics(
        msgspec.structs.replace(record, thresholds={"empirical": stored}, sections={"00": bare})
    )
    assert not {"threshold", "f1_source", "test_false_alarms_source"} & metrics.keys()
    assert metrics["auc_source"] == pytest.approx(section.official["auc_source"])


def test_two_sections_count_alike_and_the_official_score_is_the_mean_of_the_rule(
    record: ResultRecord,
) -> None:
    [section] = record.sections.values()
    better = msgspec.structs.replace(section, official=dict.fromkeys(section.official, 1.0))
    both = msgspec.structs.replace(record, sections={"00": section, "01": better})
    values = [value for one in (section, better) for value in one.official.values()]
    expected = len(values) / sum(1 / value for value in values)
    assert machine_type_metrics(both)["official_score"] == pytest.approx(expected)


def test_a_name_that_some_lack_is_averaged_over_those_that_have_it() -> None:
    assert means_by_name([{"a": 1.0}, {"a": 2.0, "b": 5.0}]) == {"a": 1.5, "b": 5.0}
