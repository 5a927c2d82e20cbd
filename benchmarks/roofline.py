"""How close training steps come to the speed at which this machine multiplies matrices.

For the steps of ``bench_conformer.py`` (64 windows) and ``bench_autoencoder.py`` (256 vectors), on one thread
and in CPU time: the floating-point operations of a step, the rate at which torch does its matrix products
alone (each product of the step by itself, in its shape and precision), and the rate of the whole step.
Achieved over attainable is the share of the step that its matrix products take at their best.

    python benchmarks/roofline.py [--rows 64] [--rounds 5]
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import bench_conformer
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = {torch.ops.aten.mm.default: 0, torch.ops.aten.addmm.default: 1, torch.ops.aten.bmm.default: 0}
Product = tuple[object, tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]]


class Products(TorchDispatchMode):
    """Counts the matrix products of what runs in it, by operator, shapes, strides and precision."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Product] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in PRODUCTS:
            self.calls[function, tuple((a.shape, a.stride(), a.dtype) for a in args)] += 1
        return function(*args, **(kwargs or {}))


def flops(product: Product) -> int:
    """Return the floating-point operations of a product."""
    function, operands = product
    left, right = (operand[0] for operand in operands[PRODUCTS[function] :])
    return 2 * left.numel() * right[-1]


def best_s(work: Callable[[], object], rounds: int) -> float:
    """Return the seconds of CPU time of the best call."""
    work()
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def alone_s(product: Product, rounds: int) -> float:
    """Return the seconds of a product by itself."""
    function, operands = product
    made = [torch.empty_strided(*operand[:2], dtype=operand[2]).normal_() for operand in operands]
    with torch.inference_mode():
        return best_s(lambda: function(*made), 4 * rounds)


@dataclass(frozen=True)
class Roofline:
    """The operations of a step's matrix products, and seconds of the products alone and of the step."""

    flops: int
    products_s: float
    step_s: float

    def __str__(self) -> str:
        attainable, achieved = (self.flops / seconds / 1e9 for seconds in (self.products_s, self.step_s))
        return (
            f"{self.flops / 1e9:.2f} GFLOP in {1e3 * self.step_s:.1f} ms: {achieved:.0f} of attainable "
            f"{attainable:.0f} GFLOP/s, {achieved / attainable:.0%}"
        )


def roofline(step: Callable[[], object], rounds: int) -> Roofline:
    """Return the roofline of a step."""
    step()
    with Products() as products:
        step()
    calls = products.calls
    products_s = sum(count * alone_s(product, rounds) for product, count in calls.items())
    return Roofline(sum(count * flops(p) for p, count in calls.items()), products_s, best_s(step, rounds))


def conformer_step(frames: int, *, bf16: bool) -> Callable[[], Tensor]:
    """Return a training step of ``bench_conformer.py``."""
    torch.manual_seed(0)
    trainer = bench_conformer.Trainer(bench_conformer.Ours(), bf16=bf16)
    batch = bench_conformer.windows(frames, torch.Generator().manual_seed(0))
    return lambda: trainer.step(*batch)


def autoencoder_step() -> Callable[[], None]:
    """Return a training step of ``baseline-mse`` on 256 vectors."""
    network = autoencoder()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    vectors = torch.randn(256, 640)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(network(vectors), vectors).backward()
        optimizer.step()

    return step


def autoencoder() -> nn.Module:
    """Return the network of ``baseline-mse``."""
    from asdbench import registry
    from asdbench.system import TrainingFacts

    configured = registry.configure("baseline-mse", {})
    return configured.system(configured.config, TrainingFacts(("00",), {})).network


def peak(dtype: torch.dtype, rounds: int) -> float:
    """Return the GFLOP/s of a product of square matrices."""
    matrix = torch.randn(1024, 1024, dtype=dtype)
    return 2 * 1024**3 / best_s(lambda: matrix @ matrix, 4 * rounds) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=64, help="windows of a step of the conformer")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bench_conformer.ROWS = chosen.rows
    for dtype in (torch.float32, torch.bfloat16):
        print(f"product of square {dtype} matrices: {peak(dtype, chosen.rounds):.0f} GFLOP/s")
    print(f"autoencoder, float32: {roofline(autoencoder_step(), 20 * chosen.rounds)}")
    for frames in (64, 256):
        for bf16 in (False, True):
            precision = "bfloat16" if bf16 else "float32"
            found = roofline(conformer_step(frames, bf16=bf16), chosen.rounds)
            print(f"conformer, {frames} frames, {precision}: {found}", flush=True)


if __name__ == "__main__":
    main()
