"""The plain PyTorch loop that the training is compared with.

The same network, losses and optimizer, in bfloat16 without ``torch.compile``; a ``DataLoader`` with workers,
whose items are windows that torchaudio's transforms change and turn into log-mel. A pitch is shifted by
stretching and linear interpolation: ``torchaudio.functional.pitch_shift`` takes seconds for a clip, because
its resampler has a filter for every phase of a ratio of large numbers.
"""

import os
import time

import torch
from gpu_sizes import Machine, Sizes
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from asdbench.features.torchaudio_import import torchaudio
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec
from asdbench.system import ClipBatch, System

_FFT = 1024


class Windows(Dataset):
    """One item: a window with one of the eight transforms, its label and the transform's index."""

    def __init__(self, clips: Tensor, spec: MelSpec, frames: int) -> None:
        transforms = torchaudio.transforms
        self.clips, self.frames = clips, frames
        self.length = spec.n_fft + spec.hop_samples * (frames - 1)
        self.mel = transforms.MelSpectrogram(
            SAMPLE_RATE_HZ, spec.n_fft, hop_length=spec.hop_samples, n_mels=spec.n_mels, center=False,
            norm="slaney", mel_scale="slaney",
        )  # fmt: skip
        self.decibels = transforms.AmplitudeToDB()
        self.spectrum = transforms.Spectrogram(_FFT, power=None)
        self.stretch = transforms.TimeStretch(hop_length=_FFT // 2, n_freq=_FFT // 2 + 1)
        self.wave = transforms.InverseSpectrogram(_FFT)
        self.masks = {
            2: transforms.FrequencyMasking(spec.n_mels // 10),
            3: transforms.TimeMasking(frames // 10),
        }

    def __len__(self) -> int:
        return 1 << 30

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        clip, transform = self.clips[index % len(self.clips)], int(torch.randint(8, ()))
        begin = int(torch.randint(max(len(clip) - 2 * self.length, 0) + 1, ()))
        samples = self.changed(clip[begin : begin + 2 * self.length].float() / 32768, transform)
        window = torch.nn.functional.pad(samples[: self.length], (0, max(self.length - len(samples), 0)))
        mel = self.decibels(self.mel(window))
        if transform in self.masks:
            mel = self.masks[transform](mel)
        return mel.T / 20, index % 2, transform

    def changed(self, samples: Tensor, transform: int) -> Tensor:
        """Return samples after the transform, if that is one of the waveform."""
        if transform == 0:
            snr = torch.empty(1).uniform_(-6, 6)
            return torchaudio.functional.add_noise(samples[None], torch.randn(1, len(samples)), snr)[0]
        if transform == 1:
            into, out = torch.randint(len(samples) // 2, (2,)).tolist()
            return torchaudio.transforms.Fade(into, out)(samples)
        if transform == 4:
            return samples.roll(int(torch.randint(len(samples), ())))
        if transform == 6:
            return self.stretched(samples, float(torch.empty(()).uniform_(0.5, 2)))
        if transform == 7:
            factor = 2 ** float(torch.empty(()).uniform_(-10 / 12, 10 / 12))
            slow = self.stretched(samples, 1 / factor)
            return torch.nn.functional.interpolate(slow[None, None], len(samples), mode="linear")[0, 0]
        return samples

    def stretched(self, samples: Tensor, rate: float) -> Tensor:
        """Return samples, played ``rate`` times as fast at the same pitch."""
        return self.wave(self.stretch(self.spectrum(samples), rate))


def plain_rate(system: System, clips: Tensor, sizes: Sizes, machine: Machine) -> tuple[float, int]:
    """Return windows/s of the plain loop, and the number of its workers."""
    workers = min(8, os.cpu_count() or 1) if machine.is_gpu else 0
    config = system.config
    data = Windows(clips, type(system).input_spec(config).mel, config.window_frames)
    loader = DataLoader(
        data,
        sizes.batch,
        sampler=range(1 << 20),
        num_workers=workers,
        pin_memory=machine.is_gpu,
        drop_last=True,
    )
    optimizer = torch.optim.AdamW(system.parameters(), lr=config.learning_rate)
    system.train()
    began = 0.0
    for step, items in enumerate(loader):
        if step == sizes.plain_warm:
            machine.wait()
            began = time.perf_counter()
        if step == sizes.plain_warm + sizes.plain_steps:
            break
        _step(system, _batch(items, system, machine), optimizer, machine)
    machine.wait()
    return sizes.batch * sizes.plain_steps / (time.perf_counter() - began), workers


def model_rate(system: System, clips: Tensor, sizes: Sizes, machine: Machine) -> float:
    """Return windows/s of the plain loop's model on one batch, again and again."""
    config = system.config
    data = Windows(clips, type(system).input_spec(config).mel, config.window_frames)
    items = next(iter(DataLoader(data, sizes.batch, sampler=range(sizes.batch))))
    batch, optimizer = (
        _batch(items, system, machine),
        torch.optim.AdamW(system.parameters(), config.learning_rate),
    )
    for step in range(sizes.plain_warm + sizes.plain_steps):
        if step == sizes.plain_warm:
            machine.wait()
            began = time.perf_counter()
        _step(system, batch, optimizer, machine)
    machine.wait()
    return sizes.batch * sizes.plain_steps / (time.perf_counter() - began)


def _batch(items: list[Tensor], system: System, machine: Machine) -> ClipBatch:
    windows, machines, transforms = (item.to(machine.device, non_blocking=True) for item in items)
    zeros = torch.zeros_like(machines)
    attributes = zeros[:, None].expand(-1, len(system.facts.attributes))
    return ClipBatch(
        windows,
        torch.arange(len(windows), device=machine.device),
        len(windows),
        machine=machines,
        section=zeros,
        domain=zeros,
        attributes=attributes,
        augmentation=transforms,
    )


def _step(system: System, batch: ClipBatch, optimizer: torch.optim.Optimizer, machine: Machine) -> None:
    with torch.autocast(machine.device.type, torch.bfloat16):
        losses = system(batch, "all", torch.zeros((), device=machine.device))
    total = sum(losses.weights.get(name, 1.0) * part.sum / part.count for name, part in losses.parts.items())
    optimizer.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_(system.parameters(), system.config.gradient_clip)
    optimizer.step()
