"""Batches of training steps on the device of a system.

On a CPU a batch is made when its step begins. For a GPU several threads make raw batches ahead of their steps
and pin them; copies and preparation run on a stream of their own, one step ahead, so that the GPU computes a
step while the next batch arrives. Nothing waits for the GPU.
"""

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from asdbench.data.loader import JobData
from asdbench.data.raw_batch import RawBatch
from asdbench.engine.runtime import Runtime
from asdbench.system import ClipBatch

T = TypeVar("T")
_MOST_THREADS = 4  # that make raw batches; one makes a batch of 128 rows in some milliseconds
_AHEAD = 4  # raw batches that are made before they are asked for


def step_batches(data: JobData, steps: Iterable[int], runtime: Runtime) -> Iterator[ClipBatch]:
    """Yield the batches of training steps on the device of ``runtime``, those of its process.

    Parameters
    ----------
    data : the job's clips
    steps : which steps, in order
    runtime : device, and the processes that share the steps
    """

    def raw_batch(step: int) -> RawBatch:
        return data.raw_batch(step, rank=runtime.rank, size=runtime.size)

    if runtime.device.type == "cuda":
        pool = _pool(os.getpid())
        pinned = made_ahead(lambda step: raw_batch(step).pinned(), steps, pool=pool, ahead=_AHEAD)
        yield from _prepared_ahead(pinned, data, runtime.device)
        return
    for step in steps:
        yield data.batch(step, rank=runtime.rank, size=runtime.size)


def made_ahead(
    make: Callable[[int], T], steps: Iterable[int], *, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[T]:
    """Yield what ``make`` returns for each of ``steps``, in order, made by several threads.

    The first is made by the calling thread, so that what all share is read once.

    Parameters
    ----------
    make : called with a step
    steps : in order
    pool : the threads
    ahead : number of results that are made before they are asked for

    Examples
    --------
    >>> with ThreadPoolExecutor(2) as pool:
    ...     list(made_ahead(lambda step: step**2, range(5), pool=pool, ahead=3))
    [0, 1, 4, 9, 16]
    """
    remaining = iter(steps)
    yield from map(make, islice(remaining, 1))
    waiting: deque[Future[T]] = deque()
    try:
        for step in remaining:
            waiting.append(pool.submit(make, step))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads that all jobs of a process share; a forked process has none of its parent."""
    threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


def _prepared_ahead(raws: Iterator[RawBatch], data: JobData, device: torch.device) -> Iterator[ClipBatch]:
    """Yield prepared batches on a GPU; the next is on its way when one is yielded."""
    preparation = copy.deepcopy(data.preparation).to(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))

    def launched(raw: RawBatch) -> tuple[ClipBatch, torch.cuda.Event]:
        with torch.cuda.stream(stream), torch.no_grad():
            return preparation(raw.to(device)), stream.record_event()

    following = map(launched, raws)
    for batch, ready in islice(following, 1):
        for later, later_ready in following:
            yield _taken(batch, ready, device)
            batch, ready = later, later_ready
        yield _taken(batch, ready, device)


def _taken(batch: ClipBatch, ready: torch.cuda.Event, device: torch.device) -> ClipBatch:
    """Return a batch for the current stream, which waits for it and holds its memory until it is done."""
    current = torch.cuda.current_stream(device)
    current.wait_event(ready)
    for tensor in _tensors(batch):
        tensor.record_stream(current)
    return batch


def _tensors(batch: ClipBatch) -> list[Tensor]:
    values = [*vars(batch).values(), *batch.features.values()]
    return [value for value in values if isinstance(value, Tensor)]
