"""asdbench: a benchmark of detectors of anomalous machine sound (DCASE Challenge Task 2).

The names that a detection system needs are here, and the functions that run systems and report results. Each
is imported on first access. ``from asdbench import *`` takes the names for systems only.

>>> import asdbench
>>> asdbench.InputSpec(asdbench.MelSpec(n_mels=64), window_frames=64, window_hop_frames=64).mel.n_mels
64
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # ``as`` makes the names public that are not in ``__all__``
    from asdbench.api.data import add_data as add_data
    from asdbench.api.data import add_demo_data as add_demo_data
    from asdbench.api.data import data_sets as data_sets
    from asdbench.api.models import export as export
    from asdbench.api.models import load as load
    from asdbench.api.reports import compare as compare
    from asdbench.api.reports import leaderboard as leaderboard
    from asdbench.api.reports import ranks as ranks
    from asdbench.api.reports import scores as scores
    from asdbench.api.result_folders import check_results as check_results
    from asdbench.api.result_folders import export_results as export_results
    from asdbench.api.result_folders import import_results as import_results
    from asdbench.api.results import CheckedResults as CheckedResults
    from asdbench.api.results import Comparison as Comparison
    from asdbench.api.results import Counterpart as Counterpart
    from asdbench.api.results import DataSet as DataSet
    from asdbench.api.results import DataSets as DataSets
    from asdbench.api.results import Detector as Detector
    from asdbench.api.results import FuseResult as FuseResult
    from asdbench.api.results import ImportedResult as ImportedResult
    from asdbench.api.results import Leaderboard as Leaderboard
    from asdbench.api.results import Ranks as Ranks
    from asdbench.api.results import Reproduction as Reproduction
    from asdbench.api.results import RunResult as RunResult
    from asdbench.api.results import Scores as Scores
    from asdbench.api.results import Settings as Settings
    from asdbench.api.results import Systems as Systems
    from asdbench.api.results import TunedSystem as TunedSystem
    from asdbench.api.results import TuneResult as TuneResult
    from asdbench.api.results import VerifiedWeights as VerifiedWeights
    from asdbench.api.results import Weights as Weights
    from asdbench.api.runs import Cluster as Cluster
    from asdbench.api.runs import fuse as fuse
    from asdbench.api.runs import reproduce as reproduce
    from asdbench.api.runs import run as run
    from asdbench.api.runs import tune as tune
    from asdbench.api.systems import settings as settings
    from asdbench.api.systems import systems as systems
    from asdbench.api.weights import add_weights as add_weights
    from asdbench.api.weights import get_weights as get_weights
    from asdbench.api.weights import pretrained_weights as pretrained_weights
    from asdbench.api.weights import verify_weights as verify_weights
    from asdbench.config import Choice, Range, Simplex, tunable
    from asdbench.errors import InfrastructureError as InfrastructureError
    from asdbench.errors import InputError
    from asdbench.presets import Preset
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
        Pooling,
        Stage,
        System,
        TrainingFacts,
        Update,
        on_scale,
        once_per_batch,
        training_embeddings,
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
    "Pooling",
    "Preset",
    "Range",
    "Simplex",
    "Stage",
    "System",
    "TrainingFacts",
    "Update",
    "__version__",
    "on_scale",
    "once_per_batch",
    "training_embeddings",
    "tunable",
]

_NAMES = {
    "asdbench.api.data": ("add_data", "add_demo_data", "data_sets"),
    "asdbench.api.models": ("export", "load"),
    "asdbench.api.reports": ("compare", "leaderboard", "ranks", "scores"),
    "asdbench.api.result_folders": ("check_results", "export_results", "import_results"),
    "asdbench.api.results": (
        "CheckedResults", "Comparison", "Counterpart", "DataSet", "DataSets", "Detector", "FuseResult",
        "ImportedResult", "Leaderboard", "Ranks", "Reproduction", "RunResult", "Scores", "Settings",
        "Systems", "TuneResult", "TunedSystem", "VerifiedWeights", "Weights",
    ),
    "asdbench.api.runs": ("Cluster", "fuse", "reproduce", "run", "tune"),
    "asdbench.api.systems": ("settings", "systems"),
    "asdbench.api.weights": ("add_weights", "get_weights", "pretrained_weights", "verify_weights"),
    "asdbench.config": ("Choice", "Range", "Simplex", "tunable"),
    "asdbench.errors": ("InfrastructureError", "InputError"),
    "asdbench.presets": ("Preset",),
    "asdbench.spec": ("SAMPLE_RATE_HZ", "MelSpec"),
    "asdbench.system": (
        "UNKNOWN", "BatchPlan", "ClipBatch", "Fusion", "InputSpec", "Losses", "Mean", "MemberScores",
        "Pooling", "Stage", "System", "TrainingFacts", "Update", "on_scale", "once_per_batch",
        "training_embeddings",
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
    return sorted({*globals(), *MODULE_OF})
