from dataclasses import dataclass
from typing import Any

import pytest

from asdbench.config import (
    Choice,
    Range,
    Setting,
    Simplex,
    checked,
    make_config,
    parse_assignments,
    settings_of,
    tunable,
    typed,
    values_of,
)
from asdbench.errors import InputError


@dataclass(frozen=True)
class Config:
    epochs: int = tunable(100, Range(20, 200, log=True), minimum=1, maximum=1000)
    rate: float = tunable(1e-3, Range(1e-4, 1e-2, log=True), minimum=0.0)
    kind: str = tunable("released", Choice("released", "per_frame"), affects="fusion")
    heads: int = tunable(4, Choice(2, 4, 8))
    bf16: bool = tunable(False)
    names: tuple[str, ...] = tunable(("x", "y"), affects="fusion")
    shares: tuple[float, ...] | None = tunable(None, affects="fusion", minimum=0.0)
    clip: float | None = tunable(None, Range(0.1, 10.0), affects="scoring")


def made(**values: Any) -> Config:
    config = make_config(Config, values, owner="it")
    assert isinstance(config, Config)
    return config


def test_settings_are_listed_in_the_order_of_declaration() -> None:
    settings = settings_of(Config)
    assert list(settings) == ["epochs", "rate", "kind", "heads", "bf16", "names", "shares", "clip"]
    assert settings["epochs"] == Setting("epochs", int, 100, Range(20, 200, log=True), "training", 1, 1000)
    assert settings["kind"].affects == "fusion"


def test_a_field_without_tunable_is_a_mistake_of_the_author() -> None:
    @dataclass(frozen=True)
    class Plain:
        epochs: int = 3

    with pytest.raises(TypeError, match=r"epochs must be declared with tunable"):
        settings_of(Plain)


def test_values_go_over_the_defaults() -> None:
    assert made() == Config()
    assert made(epochs=3, kind="per_frame") == Config(epochs=3, kind="per_frame")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", "7", 7),
        ("epochs", 7.0, 7),
        ("epochs", 1, 1),
        ("epochs", 1000, 1000),
        ("rate", "1e-2", 0.01),
        ("rate", 1, 1.0),
        ("rate", 5.0, 5.0),  # outside the search domain, and allowed
        ("heads", "8", 8),
        ("bf16", "true", True),
        ("bf16", "False", False),
        ("clip", "none", None),
        ("clip", None, None),
        ("clip", "2", 2.0),
        ("names", "a, b", ("a", "b")),
        ("names", "a", ("a",)),
        ("names", ["a", "b"], ("a", "b")),
        ("names", "", ()),
        ("shares", "1,2.5", (1.0, 2.5)),
        ("shares", [1, 2], (1.0, 2.0)),
        ("shares", 3, (3.0,)),
        ("shares", "none", None),
    ],
)
def test_a_value_becomes_the_settings_type(name: str, value: Any, expected: Any) -> None:
    found = checked(settings_of(Config), name, value, owner="it")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epoch", 3, "no setting 'epoch' of it; did you mean 'epochs'"),
        ("epochs", "three", "epochs='three' is not of type int"),
        ("epochs", 2.5, "epochs=2.5 is not of type int"),
        ("epochs", True, "epochs=True is not of type int"),
        ("epochs", None, "epochs=None is not of type int"),
        ("epochs", float("nan"), "epochs=nan is not of type int"),
        ("epochs", float("inf"), "epochs=inf is not of type int"),
        ("epochs", [1], r"epochs=\[1\] is not of type int"),
        ("epochs", 0, "epochs=0 is below the minimum of 1"),
        ("epochs", 1001, "epochs=1001 is above the maximum of 1000"),
        ("rate", "nan", "rate=nan is not a finite number"),
        ("rate", "inf", "rate=inf is not a finite number"),
        ("rate", True, "rate=True is not of type float"),
        ("kind", "mean", "kind='mean' is not one of: released, per_frame"),
        ("kind", 3, "kind=3 is not of type str"),
        ("heads", 3, "heads=3 is not one of: 2, 4, 8"),
        ("bf16", 1, "bf16=1 is not of type bool"),
        ("bf16", "yes", "bf16='yes' is not of type bool"),
        ("clip", "much", "clip='much' is not of type float or none"),
        ("names", 3, "names=3 is not of type str,str,..."),
        ("shares", "1,x", "shares='1,x' is not of type float,float,... or none"),
        ("shares", "1,-2", "shares=-2.0 is below the minimum of 0"),
        ("shares", "1,nan", "shares=nan is not a finite number"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made(**{name: value})


def test_settings_can_be_told_by_what_they_affect() -> None:
    assert values_of(Config()) == {
        "epochs": 100, "rate": 1e-3, "kind": "released", "heads": 4, "bf16": False,
        "names": ("x", "y"), "shares": None, "clip": None,
    }  # fmt: skip
    assert list(values_of(Config(), "training")) == ["epochs", "rate", "heads", "bf16"]
    assert values_of(Config(kind="per_frame"), "scoring", "fusion") == {
        "kind": "per_frame", "names": ("x", "y"), "shares": None, "clip": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "none"), (3, "3"), (("a", "b"), "a,b"), ([1.5, 2], "1.5,2"), ("x", "x")],
)
def test_a_value_is_shown_as_one_types_it(value: Any, text: str) -> None:
    assert typed(value) == text


def test_domains_are_shown_in_words() -> None:
    assert str(Range(0.5, 20, log=True)) == "0.5 to 20 (log)"
    assert str(Choice("a", True)) == "a, true"
    assert str(Simplex(of="members")) == "a weight for each of members"


def test_assignments_are_split_at_the_first_equals_sign() -> None:
    assert parse_assignments(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert parse_assignments([]) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs"], "'epochs' is not of the form key=value"),
        (["=3"], "not of the form"),
        (["a=1", "a=2"], "'a' twice"),
    ],
)
def test_bad_assignments_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_assignments(words)


def test_a_setting_may_depend_on_others_that_exist() -> None:
    @dataclass(frozen=True)
    class Depends:
        kind: str = tunable("far", Choice("near", "far"))
        near: int = tunable(1, Range(1, 5), when={"kind": ("near",)})
        free: int = tunable(1)
        precision: str = tunable("auto", Choice("auto", "float32"), searched=False)

    settings = settings_of(Depends)
    assert settings["near"].when == {"kind": ("near",)}
    assert {name for name, setting in settings.items() if setting.searched} == {"kind", "near"}

    @dataclass(frozen=True)
    class Wrong:
        near: int = tunable(1, when={"kid": ("near",)})

    with pytest.raises(TypeError, match="near depends on 'kid', which is not a setting"):
        settings_of(Wrong)
