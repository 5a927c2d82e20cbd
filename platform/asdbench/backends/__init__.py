"""Back ends: from embeddings of training normals to anomaly scores of embeddings, higher = more anomalous."""

from asdbench.backends.backend import Backend
from asdbench.backends.bank import SCORES, BackendBank
from asdbench.backends.gaussian import GaussianMixture, Mahalanobis
from asdbench.backends.neighbors import DensityNormalizedNeighbors, LocalOutlierFactor, NearestNeighbors

__all__ = [
    "SCORES",
    "Backend",
    "BackendBank",
    "DensityNormalizedNeighbors",
    "GaussianMixture",
    "LocalOutlierFactor",
    "Mahalanobis",
    "NearestNeighbors",
]
