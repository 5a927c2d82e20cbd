"""Weight studies on a Ray cluster of this machine: equal to those of one process, to the bit."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from asdbench.cluster.connection import Connection
from asdbench.cluster.weight_studies import run_weight_studies
from asdbench.errors import InputError
from asdbench.metrics import OFFICIAL
from asdbench.search.fusion import BatchResult, run_weight_study, weight_studies
from asdbench.search.fusion_problem import FusionProblem, SectionContributions

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CHOICES = ({"join": "scores"}, {"join": "components"})


def problem(*machine_types: str) -> FusionProblem:
    """Return a problem of three members with random contributions, which are higher for anomalies."""
    rng = np.random.default_rng(0)
    anomalous, target = np.tile([False, True], 30), np.arange(60) < 30
    shift = np.array([1.0, 0.3, 0.6])[:, None] * anomalous
    sections = tuple(
        SectionContributions(name, "00", rng.normal(size=(2, 2, 3, 60)) + shift, anomalous, target)
        for name in machine_types
    )
    return FusionProblem("ensemble", ("a", "b", "c"), "weights", CHOICES, (0, 1), sections, OFFICIAL)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[Connection]:
    with Connection("local") as connection:
        yield connection


def test_studies_on_ray_and_in_one_process_find_the_same_to_the_bit() -> None:
    given = problem("fan", "pump", "valve")
    studies = weight_studies(given)
    assert studies == (None, "fan", "pump", "valve")
    study = partial(run_weight_study, given, evaluations=200, batch=50, seed=3)
    here = [study(held_out) for held_out in studies]
    on_ray: list[BatchResult] = run_weight_studies(study, studies)
    assert on_ray == here
    assert len({result.weights for result in here}) > 1
    assert run_weight_studies(study, studies[::-1]) == here[::-1]


def test_what_a_study_raises_reaches_the_caller() -> None:
    given = problem("fan")
    with pytest.raises(InputError, match="2 evaluations are too few"):
        run_weight_studies(partial(run_weight_study, given, evaluations=2, seed=0), [None])
