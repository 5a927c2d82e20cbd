"""Time to augment the rows of a training batch, and to compute the log-mel of rows whose waveform changed.

A batch has 64 rows of 2.6 s from clips of 10 s, 8 per transform; torch uses two threads. Times are the best
of 30 batches with different keys, also as a share of a training step, whose duration is the argument.

    python benchmarks/bench_augment.py STEP_MS
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from asdbench.features.augment import ON_WAVEFORM, TRANSFORMS
from asdbench.features.mel import log_mel_of_padded
from asdbench.features.row_by_row import augmented_crops, mask_windows
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec

SPEC = MelSpec()
FRAMES = 256
LENGTH = SPEC.n_fft + SPEC.hop_samples * (FRAMES - 1)
ROWS_OF_EACH = 8
BATCHES = 30


def best_ms(work: Callable[[], object]) -> float:
    work()
    times_s = []
    for _ in range(BATCHES):
        began = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - began)
    return 1000 * min(times_s)


def main(step_ms: float) -> None:
    torch.set_num_threads(2)
    generator = np.random.default_rng(0)
    clips = [generator.integers(-3000, 3000, 10 * SAMPLE_RATE_HZ, dtype=np.int16) for _ in range(64)]

    def keys(rows: int) -> list[int]:
        return generator.integers(0, 2**62, rows).tolist()

    def crops(names: list[str]) -> torch.Tensor:
        chosen = [clips[which] for which in generator.integers(0, len(clips), len(names))]
        starts = generator.integers(-SPEC.n_fft // 2, len(clips[0]) - LENGTH, len(names)).tolist()
        return augmented_crops(chosen, starts, LENGTH, transforms=names, keys=keys(len(names)))

    def report(what: str, rows: int, duration_ms: float) -> float:
        print(f"{what:<24} {rows:>3} rows {duration_ms:7.1f} ms {duration_ms / step_ms:7.1%} of a step")
        return duration_ms

    on_waveform = [name for name in TRANSFORMS if name in ON_WAVEFORM]
    for name in on_waveform:
        report(name, ROWS_OF_EACH, best_ms(lambda name=name: crops([name] * ROWS_OF_EACH)))
    windows = torch.randn(ROWS_OF_EACH * len(TRANSFORMS), FRAMES, SPEC.n_mels)
    names = list(TRANSFORMS) * ROWS_OF_EACH
    changed = crops(on_waveform * ROWS_OF_EACH)
    total = report("all five", len(changed), best_ms(lambda: crops(on_waveform * ROWS_OF_EACH)))
    total += report("their log-mel", len(changed), best_ms(lambda: log_mel_of_padded(changed, SPEC)))
    total += report(
        "masks", 2 * ROWS_OF_EACH,
        best_ms(lambda: mask_windows(windows, transforms=names, keys=keys(len(names)))),
    )  # fmt: skip
    report("together", len(names), total)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(float(sys.argv[1]))
