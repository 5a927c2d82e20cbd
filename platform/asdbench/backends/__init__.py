"""Back ends: from embeddings of training normals to anomaly scores of embeddings, higher = more anomalous."""

from asdbench.backends.backend import Backend
from asdbench.backends.bank import SCORES, BackendBank
from asdbench.backends.gaussian import GaussianMixture, Mahalanobis
from asdbench.backends.neighbours import DensityNormalisedNeighbours, LocalOutlierFactor, NearestNeighbours

__all__ = [
    "SCORES",
    "Backend",
    "BackendBank",
    "DensityNormalisedNeighbours",
    "GaussianMixture",
    "LocalOutlierFactor",
    "Mahalanobis",
    "NearestNeighbours",
]
