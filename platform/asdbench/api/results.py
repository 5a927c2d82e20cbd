"""The types of the results that the Python API returns.

A result can be printed, notebooks show it as a table, and ``frame``, ``rows``, ``to_json``, ``to_csv`` and
``to_markdown`` give it to programs. Scores are fractions between 0 and 1 there, and percent in tables.
"""

from asdbench.api.data import DataSets
from asdbench.api.systems import Settings, Systems
from asdbench.api.weights import VerifiedWeights, Weights
from asdbench.data.sets.catalog import DataSet
from asdbench.driver.run_result import FuseResult, RunResult, TunedSystem, TuneResult
from asdbench.engine.detector import Detector
from asdbench.report.clip_scores import Scores
from asdbench.report.comparison import Comparison
from asdbench.report.imported_results import ImportedResult
from asdbench.report.leaderboard_view import Leaderboard
from asdbench.report.ranks import Ranks
from asdbench.report.reproduction import Counterpart, Reproduction
from asdbench.report.result_folder import CheckedResults

__all__ = [
    "CheckedResults",
    "Comparison",
    "Counterpart",
    "DataSet",
    "DataSets",
    "Detector",
    "FuseResult",
    "ImportedResult",
    "Leaderboard",
    "Ranks",
    "Reproduction",
    "RunResult",
    "Scores",
    "Settings",
    "Systems",
    "TuneResult",
    "TunedSystem",
    "VerifiedWeights",
    "Weights",
]
