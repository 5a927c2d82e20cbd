"""How much of everything the GPU benchmark does: in full, and in miniature, to prove that it runs."""

from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class Sizes:
    """Amounts of work.

    Attributes
    ----------
    types, clips, duration_s, test_clips : synthetic machine types, their training clips, and test clips
    seeds : for each machine type, in the stack
    settings : of ``multitask-mel``, besides its steps
    batch : rows of a training batch
    warm, measured, profiled : training steps, one after another
    plain_warm, plain_steps : steps of the plain loop; workers start and the allocator grows in the first
    stack_warm, stack_steps : steps of the stack that do not count, and steps of all its training
    report_steps : steps of the preset
    least_s : for which a call is repeated at least
    mel_clips : clips of 10 s in a call of log-mel
    matrix : rows and columns of the matrices whose product gives the attainable speed
    """

    types: int = 7
    clips: int = 300
    duration_s: float = 10.0
    test_clips: int = 4
    seeds: int = 5
    settings: dict[str, object] = field(default_factory=lambda: {"batch_size": 128, "precision": "bfloat16"})
    batch: int = 128
    warm: int = 60
    measured: int = 300
    profiled: int = 40
    plain_warm: int = 10
    plain_steps: int = 60
    stack_warm: int = 20
    stack_steps: int = 100
    report_steps: int = 1500
    least_s: float = 3.0
    mel_clips: int = 128
    matrix: int = 8192


_SMALL = {"width": 32, "heads": 2, "ffn": 32, "blocks": 1, "embedding": 8, "window_frames": 64}
QUICK = Sizes(
    types=2,
    clips=24,
    duration_s=3.0,
    test_clips=2,
    seeds=1,
    settings={"batch_size": 16, "precision": "bfloat16", **_SMALL},
    batch=16,
    warm=4,
    measured=6,
    profiled=2,
    plain_warm=1,
    plain_steps=2,
    stack_warm=1,
    stack_steps=8,
    least_s=0.2,
    mel_clips=2,
    matrix=512,
)


@dataclass(frozen=True)
class Machine:
    """Where it is measured."""

    device: torch.device

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    @property
    def name(self) -> str:
        """The device as its maker calls it; of a CPU, its type."""
        return torch.cuda.get_device_name(self.device) if self.is_gpu else self.device.type

    def wait(self) -> None:
        """Wait until all work is done."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)
