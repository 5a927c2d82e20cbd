"""Making a batch of 128 windows with all eight transforms, batched and row by row, with one thread.

A row is a window of 2.6 s of a clip of 10 s. The transforms are drawn, their contexts gathered from the
stored samples, and log-mels computed of the rows whose waveform changed. Row by row, that is the reference of
the tests (``tests/features/row_by_row.py``), which draws noise from NumPy's generator. Both are measured
alternately, with other draws each time. Times are the shortest, of the processor.

    python benchmarks/bench_augment.py [BATCHES]
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from asdbench import random_by_row
from asdbench.data.sample_contexts import contexts_of
from asdbench.features.augment import ON_WAVEFORM, TRANSFORMS, Group, mask_windows, transformed
from asdbench.features.mel import log_mel_of_padded
from asdbench.features.transform_draws import assigned, draw, slots
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec
from tests.features import row_by_row

SPEC, FRAMES, ROWS = MelSpec(), 256, 128
LENGTH = SPEC.n_fft + SPEC.hop_samples * (FRAMES - 1)
CLIP = 10 * SAMPLE_RATE_HZ

GENERATOR = np.random.default_rng(0)
SAMPLES = GENERATOR.integers(-3000, 3000, ROWS * CLIP, dtype=np.int16)
BEGIN = np.arange(ROWS) * CLIP
STARTS = GENERATOR.integers(-SPEC.n_fft // 2, CLIP - LENGTH, ROWS)
WINDOWS = torch.randn(ROWS + 1, FRAMES, SPEC.n_mels)


def groups_of(step: int) -> tuple[Group, ...]:
    keys = random_by_row.row_keys(0, step, ROWS)
    chosen = assigned(TRANSFORMS, seed=0, step=step, rows=ROWS)
    starts, clip_samples = torch.from_numpy(STARTS), torch.full((ROWS,), CLIP)
    window = FRAMES, SPEC.n_mels
    return draw(
        TRANSFORMS, chosen, keys, starts, clip_samples, slots(TRANSFORMS, ROWS), length=LENGTH, window=window
    )


def batched(group: Group) -> None:
    if group.transform not in ON_WAVEFORM:
        return mask_windows(WINDOWS, group)
    begin, first = BEGIN[group.sources.numpy()], group.first.numpy()
    samples = torch.from_numpy(SAMPLES)
    contexts = contexts_of(samples, begin, begin + CLIP, first, group.samples, circular=True)
    crops = transformed(contexts, group, LENGTH)
    WINDOWS.index_copy_(0, group.rows, log_mel_of_padded(crops, SPEC).half().float())


def by_row(group: Group) -> None:
    if group.transform not in ON_WAVEFORM:
        return masked_by_row(group)
    crops = torch.from_numpy(np.stack([crop_of(group, slot) for slot in range(len(group.rows))]))
    WINDOWS[group.rows] = row_by_row.log_mel_of_padded(crops, SPEC).half().float()


def masked_by_row(group: Group) -> None:
    axis = 0 if group.transform == "time_mask" else 1
    stripes = zip(group.drawn["begin"].tolist(), group.drawn["width"].tolist(), strict=True)
    for row, (begin, width) in zip(group.rows.tolist(), stripes, strict=True):
        row_by_row.mask(WINDOWS[row], axis, begin=begin, width=width)


def crop_of(group: Group, slot: int) -> row_by_row.Crop:
    row = int(group.sources[slot])
    clip, start = SAMPLES[BEGIN[row] : BEGIN[row] + CLIP], int(STARTS[row])
    of = {name: values[slot].item() for name, values in group.drawn.items()}
    match group.transform:
        case "noise":
            values = np.random.default_rng(of["key"] % 2**63).standard_normal(LENGTH, dtype=np.float32)
            return row_by_row.noise(clip, start, LENGTH, gain=of["gain"], values=values)
        case "fade":
            drawn = {name: int(of[name]) for name in ("into", "out", "shape")}
            return row_by_row.fade(clip, start, LENGTH, **drawn)
        case "shift":
            return row_by_row.shift(clip, start, LENGTH, by=start - int(group.first[slot]))
        case "stretch":
            return row_by_row.stretch(clip, start, LENGTH, step=of["step"])
        case _:
            return row_by_row.pitch(clip, start, LENGTH, hop=int(of["hop"]))


def milliseconds(work, group: Group) -> float:
    began = time.process_time()
    work(group)
    return 1000 * (time.process_time() - began)


def main(batches: int) -> None:
    torch.set_num_threads(1)
    times: dict[str, list[list[float]]] = {}
    for step in range(batches):
        began = time.process_time()
        groups = groups_of(step)
        drawing = 1000 * (time.process_time() - began)
        times.setdefault("draw", []).append([drawing, 0.0])
        for group in groups:
            pair = [milliseconds(work, group) for work in (batched, by_row)]
            times.setdefault(group.transform, []).append(pair)
    totals = np.zeros(2)
    for name, pairs in times.items():
        shortest = np.array(pairs[1:]).min(axis=0)
        totals += shortest
        print(f"{name:<16} batched {shortest[0]:7.2f} ms   by row {shortest[1]:7.2f} ms")
    print(f"{'together':<16} batched {totals[0]:7.2f} ms   by row {totals[1]:7.2f} ms")
    print(f"batched is {totals[1] / totals[0]:.2f} times as fast (target 1.0)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
