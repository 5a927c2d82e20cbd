"""Back ends: from embeddings of training normals to anomaly scores of embeddings, higher = more anomalous."""

from asdbench.backends.backend import Backend
from asdbench.backends.bank import SCORES, BackendBank, BackendSettings
from asdbench.backends.gaussian import Gaussian, GaussianMixture, Mahalanobis
from asdbench.backends.neighbors import (
    DensityNormalizedNeighbors,
    LocalOutlierFactor,
    NearestNeighbors,
    VarianceMinimizingNeighbors,
)

__all__ = [
    "SCORES",
    "Backend",
    "BackendBank",
    "BackendSettings",
    "DensityNormalizedNeighbors",
    "Gaussian",
    "GaussianMixture",
    "LocalOutlierFactor",
    "Mahalanobis",
    "NearestNeighbors",
    "VarianceMinimizingNeighbors",
]
