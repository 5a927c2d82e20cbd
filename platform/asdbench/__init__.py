"""asdbench: a benchmark of detectors of anomalous machine sound (DCASE Challenge Task 2).

The names that a detection system needs are here; each is imported on first access.

>>> import asdbench
>>> asdbench.InputSpec(asdbench.MelSpec(n_mels=64), window_frames=64, window_hop_frames=64).mel.n_mels
64
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asdbench.config import Choice, Range, Simplex, tunable
    from asdbench.errors import InputError
    from asdbench.spec import SAMPLE_RATE_HZ, MelSpec
    from asdbench.system import (
        UNKNOWN,
        BatchPlan,
        ClipBatch,
        Fusion,
        InputSpec,
        Losses,
        Mean,
        MemberScores,
        Stage,
        System,
        TrainingFacts,
        Update,
        on_scale,
        once_per_batch,
    )

__version__ = "0.1.0"
__all__ = [
    "SAMPLE_RATE_HZ",
    "UNKNOWN",
    "BatchPlan",
    "Choice",
    "ClipBatch",
    "Fusion",
    "InputError",
    "InputSpec",
    "Losses",
    "Mean",
    "MelSpec",
    "MemberScores",
    "Range",
    "Simplex",
    "Stage",
    "System",
    "TrainingFacts",
    "Update",
    "__version__",
    "on_scale",
    "once_per_batch",
    "tunable",
]

_NAMES = {
    "asdbench.config": ("Choice", "Range", "Simplex", "tunable"),
    "asdbench.errors": ("InputError",),
    "asdbench.spec": ("SAMPLE_RATE_HZ", "MelSpec"),
    "asdbench.system": (
        "UNKNOWN", "BatchPlan", "ClipBatch", "Fusion", "InputSpec", "Losses", "Mean", "MemberScores", "Stage",
        "System", "TrainingFacts", "Update", "on_scale", "once_per_batch",
    ),
}  # fmt: skip
MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:  # a type checker reports unknown names instead

    def __getattr__(name: str) -> object:
        """Import a public name from its module."""
        if name not in MODULE_OF:
            raise AttributeError(f"module 'asdbench' has no attribute {name!r}")
        value = getattr(importlib.import_module(MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return all names, public names that are not imported yet included."""
    return sorted({*globals(), *__all__})
