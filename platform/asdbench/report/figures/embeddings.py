"""Maps of embeddings: the first two principal components of the clips of a machine type.

The components are those of all clips of the map. Labels choose colors only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from asdbench.metrics.roc import BoolArray, FloatArray
from asdbench.report.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class EmbeddedType:
    """The test clips of a machine type on a plane.

    Attributes
    ----------
    machine_type : the machine type
    points : shape (clip, 2)
    explained : share of the variance that each of the two components explains
    anomalous, target : of each clip
    """

    machine_type: str
    points: FloatArray
    explained: tuple[float, float]
    anomalous: BoolArray
    target: BoolArray


def project(embeddings: npt.NDArray[np.float16]) -> tuple[FloatArray, tuple[float, float]]:
    """Return two principal components of embeddings, shape (clip, 2), and their shares of the variance.

    Embeddings of one dimension, or of a single clip, have zeros as the missing components.

    Examples
    --------
    >>> points, explained = project(np.array([[0, 0], [1, 0], [2, 0]], dtype=np.float16))
    >>> np.abs(points[:, 0]).tolist(), [round(share, 3) for share in explained]
    ([1.0, 0.0, 1.0], [1.0, 0.0])
    """
    values = embeddings.astype(np.float64)
    points, shares = np.zeros((len(values), 2)), (0.0, 0.0)
    n_components = min(2, *values.shape, max(1, len(values) - 1))
    if len(values) < 2 or not np.ptp(values, axis=0).any():
        return points, shares
    from sklearn.decomposition import PCA

    pca = PCA(n_components, svd_solver="full").fit(values)
    points[:, :n_components] = pca.transform(values)
    explained = [*pca.explained_variance_ratio_.tolist(), 0.0][:2]
    return points, (explained[0], explained[1])


def embedding_maps(types: Sequence[EmbeddedType]) -> "Figure":
    """Draw the clips of each machine type: normal as circles, anomalies as crosses, target clips filled."""
    with style.parameters():
        figure, axes = style.panels(len(types), height_in=2.5, left_in=0.12)
        for axis, of_type in zip(axes, types, strict=True):
            for is_anomaly in (False, True):
                for is_target in (False, True):
                    shown = of_type.points[(of_type.anomalous == is_anomaly) & (of_type.target == is_target)]
                    color = style.color("anomaly" if is_anomaly else "normal")
                    axis.plot(
                        *shown.T,
                        linestyle="none",
                        marker="^" if is_anomaly else "o",
                        markersize=4 if is_anomaly else 3.4,
                        color=color,
                        markerfacecolor=color if is_target else "none",
                        markeredgewidth=0.8,
                        alpha=0.85,
                    )
            first, second = (f"{100 * share:.0f} %" for share in of_type.explained)
            axis.set(
                title=style.panel_title(of_type.machine_type),
                xlabel=f"PC 1 ({first}) · PC 2 ({second})",
                xticks=[],
                yticks=[],
            )
            axis.margins(0.06)
    return figure
