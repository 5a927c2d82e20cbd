"""The search space that a Config declares: which settings, which domains, which conditions."""

from dataclasses import dataclass
from typing import Any

import optuna
import pytest

from asdbench import registry
from asdbench.config import Choice, Range, tunable
from asdbench.errors import InputError
from asdbench.registry import Configured
from asdbench.search.space import NothingToSearch, Space


@dataclass(frozen=True)
class Config:
    rate: float = tunable(1e-3, Range(1e-4, 1e-2, log=True))
    width: int = tunable(8, Range(4, 16))
    near: int = tunable(3, Range(1, 5), affects="scoring", when={"kind": ("near", "both")})
    kind: str = tunable("far", Choice("near", "far", "both"), affects="scoring")
    weight: float = tunable(0.5, Range(0.0, 1.0), affects="fusion")
    precision: str = tunable("auto", Choice("auto", "float32"), searched=False)
    fixed: int = tunable(4)


class System:
    Config = Config


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def configured(**values: Any) -> Configured:
    return Configured("mine", System, Config(**values), None)  # type: ignore[arg-type]


def configured_with(config: type) -> Configured:
    return Configured("other", type("Other", (), {"Config": config}), config(), None)  # type: ignore[arg-type]


def space_of(values: Configured, *fixed: str, **options: Any) -> Space:
    return Space.from_configured(values, fixed=fixed, **options)


def names(space: Space) -> list[str]:
    return [setting.name for setting in space.settings]


def draws(space: Space, count: int = 60) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    return [space.suggest(study.ask()) for _ in range(count)]


def test_settings_with_a_domain_are_drawn_within_it() -> None:
    space = space_of(configured())
    assert {s.name for s in space.settings} == {"rate", "width", "near", "kind", "weight"}
    for drawn in draws(space):
        assert 1e-4 <= drawn["rate"] <= 1e-2
        assert isinstance(drawn["width"], int)
        assert 4 <= drawn["width"] <= 16
        assert drawn["kind"] in ("near", "far", "both")
    rates = [drawn["rate"] for drawn in draws(space, 200)]
    assert 0.35 < sum(rate < 1e-3 for rate in rates) / len(rates) < 0.65  # logarithmic: half below the middle


def test_a_setting_without_effect_is_not_drawn() -> None:
    found = draws(space_of(configured()))
    assert {drawn["kind"] for drawn in found} == {"near", "far", "both"}
    for drawn in found:
        assert ("near" in drawn) == (drawn["kind"] in ("near", "both"))


def test_a_condition_on_a_fixed_setting_is_judged_by_its_value() -> None:
    assert all("near" in drawn for drawn in draws(space_of(configured(kind="near"), "kind"), 3))
    assert not any("near" in drawn for drawn in draws(space_of(configured(), "kind"), 3))


def test_the_warm_start_is_what_the_system_has_untuned() -> None:
    space = space_of(configured(rate=0.5, kind="near"))
    start = space.parameters({})
    assert start == {"rate": 0.5, "width": 8, "near": 3, "kind": "near", "weight": 0.5}
    study = optuna.create_study()
    study.enqueue_trial(start)
    assert space.suggest(study.ask()) == start  # though 0.5 is beyond the range, which is widened


def test_fixed_settings_and_expensive_ones_are_left_alone() -> None:
    assert set(names(space_of(configured(), "rate", "weight"))) == {"width", "near", "kind"}
    assert set(names(space_of(configured(), max_cost="scoring"))) == {"near", "kind", "weight"}
    assert names(space_of(configured(), max_cost="fusion")) == ["weight"]
    assert names(space_of(configured(), "rate", only_settings=("rate",))) == ["rate"]


def test_settings_are_drawn_in_the_order_of_declaration_but_after_those_that_they_depend_on() -> None:
    assert names(space_of(configured())) == ["rate", "width", "kind", "weight", "near"]

    @dataclass(frozen=True)
    class Chain:
        last: int = tunable(1, Range(1, 5), when={"second": (2,)})
        second: int = tunable(2, Range(1, 5), when={"first": ("b",), "other": ("c",)})
        third: int = tunable(2, Range(1, 5), when={"other": ("c",)})
        other: str = tunable("c", Choice("c", "d"))
        first: str = tunable("b", Choice("a", "b"))

    chain = configured_with(Chain)
    assert names(space_of(chain)) == ["other", "first", "second", "third", "last"]
    assert names(space_of(chain, "second")) == [
        "last",
        "other",
        "first",
        "third",
    ]  # a fixed one is not waited for


def test_settings_that_depend_on_each_other_are_refused() -> None:
    @dataclass(frozen=True)
    class Circle:
        one: str = tunable("a", Choice("a", "b"), when={"two": ("a",)})
        two: str = tunable("a", Choice("a", "b"), when={"one": ("a",)})

    circle = configured_with(Circle)
    with pytest.raises(TypeError, match="depend on each other in a cycle"):
        space_of(circle)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"only_settings": ("widht",)}, "did you mean 'width'"),
        ({"only_settings": ("precision",)}, "no searchable setting of mine: 'precision'"),
        ({"only_settings": ("rate",), "max_cost": "fusion"}, "'rate'"),
    ],
)
def test_a_name_that_cannot_be_searched_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        space_of(configured(), **arguments)


def test_a_system_without_a_free_setting_and_an_ensemble_have_nothing_to_search() -> None:
    with pytest.raises(NothingToSearch, match="no setting to search that requires at most refusion"):
        space_of(configured(), "weight", max_cost="fusion")
    ensemble = next(c for name in registry.names() if (c := registry.configure(name)).members)
    with pytest.raises(InputError, match="'asdbench fuse' searches its weights"):
        space_of(ensemble)


@pytest.mark.parametrize("name", [name for name in registry.names() if not registry.configure(name).members])
def test_every_system_can_be_searched_and_every_draw_is_allowed(name: str) -> None:
    system = registry.configure(name)
    space = space_of(system)
    for drawn in draws(space, 5):
        registry.configure(name, drawn)
    assert registry.configure(name, space.parameters({})).values() == system.values()
    assert "precision" not in {setting.name for setting in space.settings}
