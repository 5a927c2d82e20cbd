"""The studies that a search consists of, and searches that are refused."""

from pathlib import Path
from typing import Any

import pytest

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.jobs import ResolvedJob
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.search.plan import Search, steering_types, studies_for_system
from asdbench.testing import write_tiny


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ASDBENCH_STORAGE", raising=False)
    types = ("fan", "pump", "valve")
    return catalog.add(
        Workspace.from_environment(),
        "tiny",
        write_tiny(tmp_path / "recordings", machine_types=types, source_clips=6, target_clips=1),
    )


def jobs(data: DataSet, *, seeds: tuple[int, ...] = (0,), system: str = "baseline-mse") -> list[ResolvedJob]:
    configured = registry.configure(system)
    return [
        ResolvedJob(configured, data, machine_type, seed)
        for machine_type in data.machine_types
        for seed in seeds
    ]


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
