"""One process of a group that does jobs together: what the equality tests start, here or on several hosts.

``python train_together.py JOBS --rank R --size D --rendezvous URL --stores FOLDER ... --double FILE``, with
the data home in ``ASDBENCH_HOME``. JOBS is a JSON list of jobs' fields. All are done once a store, then
the trainings in double precision; their curves go to FILE. The leading process writes, the others leave
nothing. URL is ``file:///...`` on one host, ``tcp://host:port`` on several.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor

from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob, by_training
from asdbench.engine.run_task import run_task
from asdbench.engine.runtime import Runtime
from asdbench.engine.training import TrainingOutcome, seed_initial_weights, train
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.system import ClipBatch, Losses


def curves_in_double(jobs: Iterable[ResolvedJob], runtime: Runtime) -> dict[str, Any]:
    """Train in double precision, also where a system turns to float32; return the curves by system."""
    return {
        resolved.job.system: msgspec.to_builtins(_in_double(resolved, runtime).curve) for resolved in jobs
    }


def _in_double(resolved: ResolvedJob, runtime: Runtime) -> TrainingOutcome:
    seed_initial_weights(resolved.job.seed)
    system = resolved.build_trained(resolved.clips.facts).double()
    forward = system.forward

    def in_double(batch: ClipBatch, update: str, progress: Tensor) -> Losses:
        tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
        wide: Any = {name: value.double() for name, value in tensors.items() if value.is_floating_point()}
        with mock.patch.object(Tensor, "float", Tensor.double):
            return forward(replace(batch, **wide), update, progress)

    system.forward = in_double  # type: ignore[method-assign]
    return train(system, resolved.clips, runtime, seed=resolved.job.seed)


def _agreed(value: Any) -> Any:
    shared = [value]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def _gathered(value: Any) -> list[Any]:
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, value)
    return every


def main() -> None:
    """Join the group, do the jobs, leave."""
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", type=Path)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--rendezvous", required=True)
    parser.add_argument("--stores", type=Path, nargs="*", default=[])
    parser.add_argument("--double", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=given.rendezvous,
        rank=given.rank,
        world_size=given.size,
        timeout=timedelta(minutes=2),
    )
    runtime = Runtime(rank=given.rank, size=given.size, broadcast=_agreed, gather=_gathered)
    resolved = [
        ResolvedJob.from_workspace(Job(**fields), Workspace.from_environment())
        for fields in json.loads(given.jobs.read_text())
    ]
    for store in [JobStore(Storage.from_location(path)) for path in given.stores]:
        for task in by_training(resolved):
            for _, error in run_task(task, runtime, store):
                raise error
    if given.double is not None:
        curves = curves_in_double(resolved, runtime)
        if runtime.is_rank_zero:
            given.double.write_text(json.dumps(curves))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
