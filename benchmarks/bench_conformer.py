"""Training and scoring speed of the multitask systems' trunk, relative to torchaudio's conformer.

Ours is ``Conformer``, ``AttentiveStatisticsPooling`` and a linear head; the reference is the same model built
from ``torchaudio.models.Conformer`` and ``torch.nn.Dropout``, in float32. It also drops attention weights,
which ours does not; a second reference disables that. A training step is forward, backward and AdamW
on 64 windows of 128 mel bands. The models alternate, and the best step of each counts.
"""

import argparse
import copy
import ctypes
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from asdbench.features.torchaudio_import import torchaudio
from asdbench.nn.conformer import Conformer
from asdbench.nn.pooling import AttentiveStatisticsPooling
from tests.nn.torchaudio_weights import from_torchaudio

ROWS = 64
MELS = 128
CLASSES = 26  # ToyCar's 17 attribute values, machine type, 8 augmentations
LOSS_STEPS = 50
LOSS_FRAMES = 32


class Head(nn.Sequential):
    """Batch norm, embedding, linear heads."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(512), nn.Linear(512, 128), nn.Linear(128, CLASSES))


class Ours(nn.Module):
    """The trunk as asdbench builds it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Conformer(MELS, dropout=0.1)
        self.pooling = AttentiveStatisticsPooling()
        self.head = Head()

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.head(self.pooling(self.trunk(x)))


class Reference(nn.Module):
    """The same trunk from stock parts."""

    def __init__(self, *, attention_dropout: float = 0.1) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(MELS, 256), nn.LayerNorm(256), nn.Dropout(0.1))
        self.conformer = torchaudio.models.Conformer(256, 4, 512, 3, 15, dropout=0.1)
        for layer in self.conformer.conformer_layers:
            layer.self_attn.dropout = attention_dropout
        self.norm = nn.LayerNorm(256)
        self.weights = nn.Sequential(
            nn.Conv1d(256, 128, 1), nn.Tanh(), nn.Conv1d(128, 256, 1), nn.Softmax(dim=2)
        )
        self.head = Head()

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        frames, _ = self.conformer(self.project(x), torch.full((len(x),), x.shape[1]))
        h = self.norm(frames).transpose(1, 2)
        weights = self.weights(h)
        mean = (weights * h).sum(dim=2)
        variance = (weights * h * h).sum(dim=2) - mean * mean
        return self.head(torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=1))


def twin(reference: Reference) -> Ours:
    """Return our trunk with the weights of ``reference``."""
    ours = Ours()
    ours.trunk.project.load_state_dict(reference.project.state_dict())
    ours.trunk.blocks.load_state_dict(from_torchaudio(reference.conformer.state_dict()))
    ours.trunk.norm.load_state_dict(reference.norm.state_dict())
    for layer, source in ((ours.pooling.down, 0), (ours.pooling.up, 2)):
        weights = reference.weights[source].state_dict()
        layer.load_state_dict({"weight": weights["weight"].squeeze(2), "bias": weights["bias"]})
    ours.head.load_state_dict(reference.head.state_dict())
    return ours


class Trainer:
    """Steps of fused AdamW at 1e-3 on cross-entropy."""

    def __init__(self, model: nn.Module, *, bf16: bool = False) -> None:
        self.model, self.bf16 = model, bf16
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step(self, x: Tensor, label: Tensor) -> Tensor:
        """Take a step and return the loss before it."""
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.model(x)
        loss = nn.functional.cross_entropy(logits.float(), label)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def windows(frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return noise whose spectrum depends on the class, and the classes."""
    spectra = torch.randn(CLASSES, MELS, generator=torch.Generator().manual_seed(0))
    label = torch.randint(CLASSES, (ROWS,), generator=generator)
    return torch.randn(ROWS, frames, MELS, generator=generator) + 0.1 * spectra[label, None], label


def best(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return windows/s of each task's best call; the first round is not counted."""
    seconds = dict.fromkeys(tasks, float("inf"))
    for round_ in range(rounds + 1):
        for name, task in tasks.items():
            began = time.perf_counter()
            task()
            if round_:
                seconds[name] = min(seconds[name], time.perf_counter() - began)
    return {name: ROWS / duration for name, duration in seconds.items()}


def scored(model: nn.Module, x: Tensor) -> Tensor:
    model.eval()
    with torch.inference_mode():
        out = model(x)
    model.train()
    return out


def show(what: str, rates: dict[str, float]) -> None:
    listed = ", ".join(f"{name} {rate:.1f}" for name, rate in rates.items())
    ratios = ", ".join(
        f"{rates['ours'] / rate:.2f} of {name}" for name, rate in rates.items() if name != "ours"
    )
    print(f"{what}, windows/s: {listed}; ours is {ratios}", flush=True)


def profile(name: str, trainer: Trainer, x: Tensor, label: Tensor) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as record:
        trainer.step(x, label)
    operators = sorted(record.key_averages(), key=lambda o: -o.self_cpu_time_total)
    total = sum(o.self_cpu_time_total for o in operators)
    print(f"{name}: a step of {total / 1e6:.2f} s at {x.shape[1]} frames")
    for operator in operators[:12]:
        share = operator.self_cpu_time_total / total
        print(f"  {share:6.1%}  {operator.count:5d} x  {operator.key[:60]}")


def losses(model: nn.Module, seed: int) -> Tensor:
    """Return the loss of every step; only dropout depends on the seed, the data do not."""
    torch.manual_seed(seed)
    trainer, generator = Trainer(model), torch.Generator().manual_seed(1)
    return torch.stack([trainer.step(*windows(LOSS_FRAMES, generator)) for _ in range(LOSS_STEPS)])


def show_losses() -> None:
    torch.manual_seed(0)
    initial = Reference()
    ours = losses(twin(initial), 1)
    first, second = (losses(copy.deepcopy(initial), seed) for seed in (1, 2))
    print(f"loss over {LOSS_STEPS} steps, {LOSS_FRAMES} frames: mean of five steps")
    for begin in range(0, LOSS_STEPS, 5):
        means = [float(curve[begin : begin + 5].mean()) for curve in (ours, first, second)]
        listed = "ours {:.3f}, reference {:.3f} and {:.3f}".format(*means)
        print(f"  steps {begin:2d}-{begin + 4:2d}: {listed}")
    between, within = ((a - first).abs().mean() for a in (ours, second))
    print(
        f"mean distance of the curves: ours to reference {between:.4f}, two seeds of reference {within:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="ours under autocast, for processors with AMX")
    parser.add_argument(
        "--keep-memory",
        action="store_true",
        help="glibc keeps freed memory for the next step, for all models",
    )
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.keep_memory:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    torch.manual_seed(0)
    trainers = {
        "ours": Trainer(Ours(), bf16=chosen.bf16),
        "torchaudio": Trainer(Reference()),
        "torchaudio without attention dropout": Trainer(Reference(attention_dropout=0.0)),
    }
    for frames in (256, 64):
        x, label = windows(frames, torch.Generator().manual_seed(0))
        steps = {name: partial(trainer.step, x, label) for name, trainer in trainers.items()}
        show(f"training, {frames} frames", best(steps, chosen.rounds))
        scorings = {name: partial(scored, trainers[name].model, x) for name in ("ours", "torchaudio")}
        show(f"scoring, {frames} frames", best(scorings, chosen.rounds))
        for name in ("torchaudio", "ours"):
            profile(name, trainers[name], x, label)
    show_losses()


if __name__ == "__main__":
    main()
