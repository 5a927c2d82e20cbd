"""Requests for tasks, as the scheduler takes them, made from resolved jobs."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field

from asdbench.cluster.messages import FeatureRequest, TaskRequest
from asdbench.data import feature_store
from asdbench.data.feature_store import FeatureSpec
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.jobs import TrainingTask
from asdbench.engine.stacks import stack_key


@dataclass
class RequestBuilder:
    """Makes requests for tasks; looks once whether features are stored.

    Attributes
    ----------
    publishes : whether other nodes may need copies of features, so that stored ones are published, too
    stacks : whether to say which tasks can train as one stacked model, which takes some 10 ms a task
    """

    publishes: bool
    stacks: bool = False
    _features: dict[FeatureSpec, FeatureRequest | None] = field(default_factory=dict)

    def request(self, task: TrainingTask, priority: Sequence[float]) -> TaskRequest:
        """Return the request for a task; the lowest priority runs first."""
        jobs = [(resolved.job, resolved.keys) for resolved in task.jobs]
        features = (self._feature(data, spec) for data, spec in task.first.features)
        return TaskRequest(
            key=task.key,
            training=task.first.training_key,
            label=task.label,
            systems=task.systems,
            priority=tuple(priority),
            content=pickle.dumps(jobs),
            features=tuple(feature for feature in features if feature is not None),
            stack=stack_key(task) if self.stacks else None,
        )

    def _feature(self, data: DataSet, spec: FeatureSpec) -> FeatureRequest | None:
        """Return the request for features, ``None`` if they are stored and nobody needs a copy."""
        if spec not in self._features:
            done = not self.publishes and feature_store.is_built(data, spec)
            self._features[spec] = None if done else _feature_request(data, spec)
        return self._features[spec]


def _feature_request(data: DataSet, spec: FeatureSpec) -> FeatureRequest:
    home, storage = data.workspace.home.resolve(), data.workspace.storage.folder
    return FeatureRequest(
        key=feature_store.key_of(data, spec),
        label=f"{spec.machine_type} features",
        content=pickle.dumps(spec),
        on_driver=storage is None or storage.resolve() != home,
        takes_gpu=feature_store.gains_from_gpu(data, spec),
    )
