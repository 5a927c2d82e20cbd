"""The Ray task that trains several tasks as one stacked model, in one process on one GPU.

Each task has its own claim, reports and outcome, as if it ran alone: one that cannot be prepared, or that
fails, ends without the others.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ray

from asdbench.cluster.messages import Outcome, TaskRequest
from asdbench.cluster.tasks import (
    Reporter,
    WorkerContext,
    end_unusable_process,
    ended_here,
    job_store,
    outcome_of,
    outcome_of_jobs,
    prepared_task,
    task_device,
)
from asdbench.cluster.worker_logs import forwarded_logs

if TYPE_CHECKING:
    from asdbench.engine.job_store import JobStore
    from asdbench.engine.jobs import ResolvedJob, TrainingTask
    from asdbench.engine.runtime import Runtime

    Result = list[tuple[ResolvedJob, Exception]] | Exception


@dataclass(frozen=True)
class _Member:
    """A task of a stack that is ready to train."""

    request: TaskRequest
    task: "TrainingTask"
    runtime: "Runtime"


@ray.remote(max_retries=0, max_calls=0)
def train_stack(
    requests: Sequence[TaskRequest], copies: Sequence[bytes], context: WorkerContext
) -> list[Outcome]:
    """Train and score tasks of equal architecture together in this process; return how each ended.

    Parameters
    ----------
    requests : the tasks
    copies : the content of the outcomes of the tasks that built their features
    context : of the run
    """
    label = f"{requests[0].label} and {len(requests) - 1} more"
    with forwarded_logs(context.scheduler.report.remote, label=label), ExitStack() as claims:
        entered = {r.key: _entered(r, copies, context, claims) for r in requests}
        ready = [member for member in entered.values() if isinstance(member, _Member)]
        trained = _train(ready, context)
    outcomes = {
        key: ended_here(outcome if isinstance(outcome, Outcome) else trained[key])
        for key, outcome in entered.items()
    }
    end_unusable_process(outcomes, context)
    return list(outcomes.values())


def _entered(
    request: TaskRequest, copies: Sequence[bytes], context: WorkerContext, claims: ExitStack
) -> _Member | Outcome:
    """Return a task with its claim, ready to train, or its outcome if it does not come to that."""
    try:
        return _member(request, copies, context, claims)
    except Exception as error:
        return outcome_of([(request.label, error)])


def _member(
    request: TaskRequest, copies: Sequence[bytes], context: WorkerContext, claims: ExitStack
) -> _Member | Outcome:
    reporter = Reporter(request.key, request.label, context.scheduler, attempt=request.attempt)
    if not reporter.start():
        return Outcome("misplaced")
    from asdbench.engine.claims import claim
    from asdbench.engine.runtime import Runtime

    runtime = Runtime(device=task_device(context), report=reporter, compile=context.compile)
    store = job_store(context)
    task = prepared_task(request, copies, context, runtime)
    if store.is_done(task):
        return Outcome("ok")
    claims.enter_context(claim(store.root, request.training, run=context.run))
    return _Member(request, task, runtime)


def _train(members: Sequence[_Member], context: WorkerContext) -> Mapping[str, Outcome]:
    """Train and score tasks together; return the outcome of each by its key."""
    if not members:
        return {}
    from asdbench.cluster.gpu_meter import GpuMeter

    with GpuMeter(members[0].runtime.device, len(members)) as meter:
        watched = [replace(member, runtime=meter.watched(member.runtime)) for member in members]
        outcomes = _outcomes(watched, job_store(context), context)
    return {
        member.request.key: replace(outcome, gpu=meter.use)
        for member, outcome in zip(members, outcomes, strict=True)
    }


def _outcomes(members: Sequence[_Member], store: "JobStore", context: WorkerContext) -> list[Outcome]:
    from asdbench.engine.stacks import run_stack

    try:
        results = run_stack(
            [member.task for member in members],
            [member.runtime for member in members],
            store,
            checkpoint_epochs=context.checkpoint_epochs,
            workspaces=[context.workspace],
        )
    except Exception as error:
        return [_of_shared_error(member, error, n_members=len(members)) for member in members]
    return [_outcome(member, result, store) for member, result in zip(members, results, strict=True)]


def _of_shared_error(member: _Member, error: Exception, *, n_members: int) -> Outcome:
    """Return the outcome of each task of a stack that ended with an error; any of them may have caused it."""
    outcome = outcome_of([(member.request.label, error)])
    return replace(outcome, kind="inseparable") if outcome.kind == "user" and n_members > 1 else outcome


def _outcome(member: _Member, result: "Result", store: "JobStore") -> Outcome:
    try:
        if isinstance(result, Exception):
            raise result
        return outcome_of_jobs(member.task, result, store)
    except Exception as error:
        return outcome_of([(member.request.label, error)])
