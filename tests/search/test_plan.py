"""The studies that a search consists of, and searches that are refused."""

from typing import Any

import pytest

from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InputError
from asdbench.search.plan import Search, steering_types, studies_for_system
from tests.search.problems import jobs


def test_leaving_a_type_out_makes_a_study_of_all_others_for_each(data: DataSet) -> None:
    studies = studies_for_system(jobs(data), Search(trials=3, protocol="leave-one-type-out"), fixed=())
    assert [study.held_out for study in studies] == ["fan", "pump", "valve"]
    for study in studies:
        assert study.held_out not in study.machine_types
        assert len(study.machine_types) == 2
    assert len({study.key for study in studies}) == 3
    with pytest.raises(InputError, match="needs at least two machine types"):
        studies_for_system(jobs(data)[:1], Search(trials=3, protocol="leave-one-type-out"), fixed=())


def test_only_development_labels_may_steer(data: DataSet) -> None:
    with pytest.raises(InputError, match="--subset eval cannot steer a search"):
        studies_for_system(jobs(data), Search(trials=3), fixed=(), subset="eval")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trials": -1}, "--trials -1 is negative"),
        ({"trials": 1, "seed": -3}, "--search-seed -3"),
        ({"trials": 1, "fresh_seeds": -1}, "--fresh-seeds -1 is negative"),
        ({"trials": 1, "protocol": "test"}, "no protocol 'test'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Search(**arguments)


def test_the_development_protocol_makes_one_study_of_all_labeled_types_that_are_asked_for(
    data: DataSet,
) -> None:
    (study,) = studies_for_system(jobs(data, seeds=(1, 0))[2:], Search(trials=3, seed=4), fixed=())
    assert study.machine_types == ("pump", "valve")
    assert study.seeds == (1, 0)
    assert (study.seed, study.protocol, study.held_out) == (4, "dev", None)
    searched = {setting.name for setting in study.space.settings}
    (fixed,) = studies_for_system(jobs(data), Search(trials=3), fixed=("learning_rate",))
    assert "learning_rate" in searched
    assert {setting.name for setting in fixed.space.settings} == searched - {"learning_rate"}


def test_a_search_without_a_labeled_development_clip_is_refused(data: DataSet) -> None:
    assert steering_types(data, ["valve", "fan", "bearing"], subset=None) == ("fan", "valve")
    with pytest.raises(InputError, match="'tiny' has no labeled development test clip of the requested"):
        steering_types(data, ["bearing"], subset="dev")
