"""A fusion with the statistics of the hold-out normals: all that turns component scores into anomaly scores.

A component is standardized with the mean and deviation over the hold-out clips; without a hold-out it is not
changed.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from asdbench.errors import InputError
from asdbench.system import Fusion, Scale, on_scale

_LEAST_DEVIATION = 1e-12


class Normalization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Mean and deviation of a score over the hold-out normals; 0 and 1 without a hold-out."""

    mean: float
    deviation: float

    @classmethod
    def from_table(cls, scores: pl.DataFrame, name: str) -> "Normalization":
        """Return the statistics of the column ``name`` over the rows with use ``"hold-out"``.

        Examples
        --------
        >>> Normalization.from_table(pl.DataFrame({"use": ["hold-out"] * 2, "a": [1.0, 3.0]}), "a")
        Normalization(mean=2.0, deviation=1.0)
        """
        normal = scores[name].to_numpy()[(scores["use"] == "hold-out").to_numpy()]
        if not len(normal):
            return cls(0.0, 1.0)
        return cls(float(normal.mean()), max(float(normal.std()), _LEAST_DEVIATION))

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scores as z-scores."""
        return (values - self.mean) / self.deviation


class FittedFusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A system's fusion with the statistics of its components.

    Attributes
    ----------
    weights : nonzero weight of each component by name
    scale : scale on which the standardized components are added, see :class:`asdbench.system.Fusion`
    normalizations : statistics of each of these components
    """

    weights: dict[str, float]
    scale: Scale
    normalizations: dict[str, Normalization]

    @classmethod
    def from_table(cls, components: pl.DataFrame, fusion: Fusion) -> "FittedFusion":
        """Return the fusion of a component table as in `asdbench.engine.scoring.component_scores`.

        Raises :class:`InputError` if the fusion names a component that the table lacks.
        """
        names = [name for name in components.columns if name not in ("clip_id", "use")]
        chosen = fusion.weights if fusion.weights is not None else dict.fromkeys(names, 1 / len(names))
        unknown = sorted(set(chosen) - set(names))
        if unknown:
            raise InputError(
                f"fusion weights name component {unknown[0]!r}; the system has: {', '.join(names)}"
            )
        weights = {name: float(weight) for name, weight in chosen.items() if weight}
        return cls(
            weights, fusion.scale, {name: Normalization.from_table(components, name) for name in weights}
        )

    def standardized(self, components: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """Return the components that have a weight, standardized."""
        return {name: self.normalizations[name].apply(components[name]) for name in self.weights}

    def score(self, components: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the anomaly score of each row.

        Parameters
        ----------
        components : by name, Float[ndarray, "row"]; those without a weight are ignored

        Examples
        --------
        >>> fusion = FittedFusion({"a": 0.5}, "linear", {"a": Normalization(2.0, 4.0)})
        >>> fusion.score({"a": np.array([2.0, 10.0])})
        array([0., 1.])
        """
        score = np.zeros(len(next(iter(components.values()))))
        for name, values in self.standardized(components).items():
            score += self.weights[name] * on_scale(torch.from_numpy(values.copy()), self.scale).numpy()
        return score
