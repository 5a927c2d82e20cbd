"""Maps of embeddings."""

import numpy as np
import pytest

from asdbench.report.figures import style
from asdbench.report.figures.embeddings import EmbeddedType, embedding_maps, project


def test_the_first_component_is_the_direction_of_most_variance() -> None:
    generator = np.random.default_rng(0)
    values = (generator.normal(size=(50, 4)) * [9, 3, 0.1, 0.1]).astype(np.float16)
    points, (first, second) = project(values)
    assert abs(np.corrcoef(points[:, 0], values[:, 0])[0, 1]) > 0.99
    assert first > second > 0
    assert first + second == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (3, 4)])
def test_few_or_equal_embeddings_have_a_map(shape: tuple[int, int]) -> None:
    points, shares = project(np.ones(shape, np.float16))
    assert points.tolist() == [[0.0, 0.0]] * shape[0]
    assert shares == (0.0, 0.0)


def test_labels_and_domains_are_told_apart() -> None:
    flags = np.array([False, False, True, True]), np.array([False, True, False, True])
    axis = embedding_maps([EmbeddedType("fan", np.eye(4)[:, :2], (0.6, 0.2), *flags)]).axes[0]
    drawn = {(line.get_marker(), line.get_markerfacecolor() == "none") for line in axis.lines}
    assert len(drawn) == 4
    assert {line.get_color() for line in axis.lines} == {style.color("normal"), style.color("anomaly")}
    assert axis.get_xlabel() == "PC 1 (60 %) · PC 2 (20 %)"
