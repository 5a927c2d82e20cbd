"""The (selective) Mahalanobis baseline of DCASE 2023 Task 2 as its paper describes it.

Harada et al., 2023, arXiv:2303.00455, section III: the score of a clip is the mean Mahalanobis distance of
its frames, in the domain where it is smaller. ``baseline-maha`` gives the score of the released
implementation, the distance of a clip's mean residual; both use the same autoencoder, residuals and
covariances. As a system of its own, the paper's score has a row of its own.
"""

from dataclasses import dataclass
from typing import Any

from asdbench.system import Fusion
from systems.baseline_maha import BaselineMaha


@dataclass(frozen=True)
class NoSettings:
    """No settings in addition to those of the autoencoder."""


class BaselineMahaPerFrame(BaselineMaha):
    """Mean Mahalanobis distance of frames, with the autoencoder that ``baseline-mse`` trains."""

    Config = NoSettings  # type: ignore[assignment] # the base class chooses between both scores

    @classmethod
    def fusion(cls, config: Any) -> Fusion:
        """Return a fusion that counts only the mean distance of frames."""
        return Fusion({"per_frame": 1.0})
