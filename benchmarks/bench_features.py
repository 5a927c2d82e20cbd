"""Log-mel speed relative to librosa, scaling to two workers, and random reads from the feature store."""

import statistics
import time

import librosa
import numpy as np
import torch
from synthetic import noise_data

from asdbench.data import feature_store
from asdbench.data.mel_frames import as_tensor
from asdbench.features.mel import log_mel
from asdbench.spec import MelSpec

CLIPS = 600


def timed(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def with_librosa(waveform: np.ndarray, spec: MelSpec) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=16_000,
        n_fft=spec.n_fft,
        hop_length=spec.hop_samples,
        n_mels=spec.n_mels,
        pad_mode="constant",
    )
    return 10 * np.log10(np.maximum(mel, spec.floor))


def mel_against_librosa() -> None:
    torch.set_num_threads(1)
    waveform = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    for spec in (MelSpec(), MelSpec(hop_samples=512)):
        with_librosa(waveform, spec)
        log_mel(torch.from_numpy(waveform), spec)
        pairs = [
            (
                20 / timed(lambda s=spec: [log_mel(torch.from_numpy(waveform), s) for _ in range(20)]),
                10 / timed(lambda s=spec: [with_librosa(waveform, s) for _ in range(10)]),
            )
            for _ in range(9)
        ]
        ratio = statistics.median(a / b for a, b in pairs)
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"log-mel, hop {spec.hop_samples}: {ours:.0f} clips/s, librosa {theirs:.0f}, ratio {ratio:.2f}")


def building_and_reading() -> None:
    with noise_data(types=1, training_clips=CLIPS) as data:
        spec = MelSpec()
        feature_store.waveforms(data, "type0")
        path = feature_store.mel_path(data, "type0", spec, min_frames=1)
        ratios = []
        for _ in range(3):
            seconds = {}
            for workers in (1, 2):
                seconds[workers] = timed(
                    lambda w=workers: feature_store.mels(data, "type0", spec, min_frames=1, workers=w)
                )
                shard = feature_store.Shard(path)
                path.unlink() if workers == 1 else None
            ratios.append(seconds[1] / seconds[2])
            path.unlink()
        print(f"log-mel into the store: {CLIPS / seconds[2]:.0f} clips/s with two workers, "
              f"{statistics.median(ratios):.2f} times one")  # fmt: skip
        shard = feature_store.mels(data, "type0", spec, min_frames=1)
        frames = as_tensor(shard.rows)
        torch.set_num_threads(2)
        generator = np.random.default_rng(0)
        out = torch.empty(32, 1001, spec.n_mels)
        rates = []
        for _ in range(40):
            chosen = generator.integers(0, CLIPS, 32)

            def gather(chosen=chosen) -> None:
                for row, clip in enumerate(chosen):
                    out[row] = frames[shard.starts[clip] : shard.starts[clip] + 1001]

            rates.append(32 / timed(gather))
        print(f"random 10 s clips to float32, batches of 32: {statistics.median(rates):.0f} clips/s")


def opening() -> None:
    with noise_data(types=7, training_clips=1200, duration_s=0.5) as data:
        spec = MelSpec()
        for machine in data.machine_types:
            feature_store.mels(data, machine, spec, min_frames=1)

        def open_all() -> int:
            shards = [feature_store.mels(data, machine, spec, min_frames=1) for machine in data.machine_types]
            return sum(len(shard.clip(int(clip_id))) for shard in shards for clip_id in shard.clip_ids[:10])

        print(f"opening the store of {data.clips.height} clips: {timed(open_all):.3f} s")


if __name__ == "__main__":
    mel_against_librosa()
    building_and_reading()
    opening()
