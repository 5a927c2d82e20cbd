"""Requests for tasks: what they name, and which features they wait for."""

import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

from asdbench.data.feature_store import FeatureSpec
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.features import build_features
from asdbench.driver.task_requests import RequestBuilder
from asdbench.engine.jobs import ResolvedJob, by_training
from asdbench.io.storage import Storage

Jobs = Callable[..., list[ResolvedJob]]


def test_a_request_holds_what_a_worker_needs_to_find_the_same_jobs(small_jobs: Jobs) -> None:
    fan, valve = by_training([*small_jobs(), *small_jobs("baseline-maha")])
    builder = RequestBuilder(publishes=False)
    request = builder.request(fan, (1, 4))
    assert request.priority == (1, 4)
    assert request.label == "fan baseline-mse seed 0"
    assert request.systems == ("baseline-mse", "baseline-maha")
    assert pickle.loads(request.content) == [(resolved.job, resolved.keys) for resolved in fan.jobs]
    assert request.training == fan.first.training_key
    assert request.key == by_training(fan.jobs)[0].key != builder.request(valve, (1, 4)).key


def test_a_request_says_which_tasks_train_as_one_stacked_model_where_that_is_wanted(small_jobs: Jobs) -> None:
    fan, valve = by_training(small_jobs())
    (wider, _) = by_training(small_jobs(hidden=16))
    builder = RequestBuilder(publishes=False, stacks=True)
    stacks = [builder.request(task, (0,)).stack for task in (fan, valve, wider)]
    assert stacks[0] is not None
    assert stacks[0] == stacks[1] != stacks[2]
    assert RequestBuilder(publishes=False).request(fan, (0,)).stack is None


def test_a_task_waits_for_features_that_are_not_stored(small_jobs: Jobs, output: Any) -> None:
    tasks = by_training(small_jobs())
    features = [RequestBuilder(publishes=False).request(task, (0,)).features for task in tasks]
    assert [len(of) for of in features] == [1, 1]
    spec = pickle.loads(features[0][0].content)
    assert isinstance(spec, FeatureSpec)
    assert (spec.machine_type, features[0][0].on_driver) == ("fan", False)
    build_features([small_jobs()[0]], console=output)
    features = [RequestBuilder(publishes=False).request(task, (0,)).features for task in tasks]
    assert [len(of) for of in features] == [0, 1]


def test_where_nodes_need_copies_stored_features_are_prepared_too(small_jobs: Jobs, output: Any) -> None:
    build_features(small_jobs(), console=output)
    builder = RequestBuilder(publishes=True)
    assert all(len(builder.request(task, (0,)).features) == 1 for task in by_training(small_jobs()))


def test_features_are_built_on_the_drivers_node_if_the_results_go_elsewhere(
    small_jobs: Jobs, tiny_data: DataSet
) -> None:
    """Then no worker can tell whether it sees the driver's data home."""
    workspace = dataclasses.replace(tiny_data.workspace, storage=Storage.from_location("s3://bucket/x"))
    job = dataclasses.replace(small_jobs()[0], data=dataclasses.replace(tiny_data, workspace=workspace))
    (task,) = by_training([job])
    assert [f.on_driver for f in RequestBuilder(publishes=False).request(task, (0,)).features] == [True]


def test_features_take_a_gpu_where_one_builds_them_sooner(small_jobs: Jobs, monkeypatch: Any) -> None:
    (task, _) = by_training(small_jobs())
    assert [f.takes_gpu for f in RequestBuilder(publishes=False).request(task, (0,)).features] == [False]
    monkeypatch.setattr("asdbench.data.feature_store._GPU_S", 0)
    assert [f.takes_gpu for f in RequestBuilder(publishes=False).request(task, (0,)).features] == [True]
