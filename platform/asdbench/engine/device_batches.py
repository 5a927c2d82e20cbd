"""Batches of whole clips on the device that scores them, made and copied while the last one is scored."""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from asdbench.data.batch_frames import BatchFrames
from asdbench.data.preparation import BatchPreparation
from asdbench.data.raw_batch import RawBatch
from asdbench.system import ClipBatch

MakeBatches = Callable[[BatchFrames], Iterator[RawBatch]]


def device_batches(
    make: MakeBatches, preparation: BatchPreparation, frames: BatchFrames
) -> Iterator[ClipBatch]:
    """Yield batches on the device of ``frames``.

    On a GPU, a thread makes the next raw batch and copies it from page-locked memory on a stream of its own,
    while the caller computes.

    Parameters
    ----------
    make : yields raw batches on the CPU, of as many frames as its argument says at each of them
    preparation : makes batches of them; it stays where it is
    frames : learns from the first batches how many may follow
    """
    device, prepare, made = frames.device, copy.deepcopy(preparation).to(frames.device), make(frames)
    frames.begin()
    for raw in _copied_ahead(made, device) if device.type == "cuda" else made:
        yield prepare(raw)
        frames.end(raw.windows.shape[0] * raw.windows.shape[1])
        frames.begin()


def _copied_ahead(batches: Iterator[RawBatch], device: torch.device) -> Iterator[RawBatch]:
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copied() -> tuple[RawBatch, torch.cuda.Event] | None:
        raw = next(batches, None)
        if raw is None:
            return None
        with torch.cuda.stream(stream):
            return raw.pinned().to(device), stream.record_event()

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(copied)
        while (copy_of := following.result()) is not None:
            following = pool.submit(copied)
            raw, is_copied = copy_of
            now = torch.cuda.current_stream(device)
            now.wait_event(is_copied)
            for tensor in raw.tensors():  # nobody reuses its memory before the work of this stream is done
                tensor.record_stream(now)
            yield raw
