"""Settings of a system: type, default, search domain and the cost of a change, on one line each.

A system declares them as the fields of a frozen dataclass::

    @dataclass(frozen=True)
    class Config:
        epochs: int = tunable(100, Range(20, 200, log=True), minimum=1)
        maha_mode: str = tunable("released", Choice("released", "per_frame"), affects="fusion")

``affects`` names what a change of the setting invalidates: ``"training"`` everything, ``"scoring"`` the
anomaly scores of the trained model, ``"fusion"`` only the combination of stored component scores.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

from asdbench.errors import InputError, unknown_name

Affects = Literal["training", "scoring", "fusion"]
Compile = Literal["auto", "always", "never"]  # training steps
Scalar = bool | int | float | str
T = TypeVar("T")
SettingValue = Scalar | None | tuple[Scalar, ...]  # a tuple is typed as a,b,c


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high`` that a search draws from; ``log`` for a logarithmic scale.

    Examples
    --------
    >>> str(Range(1e-4, 1e-2, log=True))
    '0.0001 to 0.01 (log)'
    """

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True, init=False)
class Choice:
    """The only values that a setting can have.

    Examples
    --------
    >>> str(Choice("mean", "max"))
    'mean, max'
    """

    options: tuple[Scalar, ...]

    def __init__(self, *options: Scalar) -> None:
        object.__setattr__(self, "options", options)

    def __str__(self) -> str:
        return ", ".join(map(typed, self.options))


@dataclass(frozen=True)
class Simplex:
    """Weights that sum to 1, one for each item of the setting named ``of``.

    Examples
    --------
    >>> str(Simplex("members"))
    'a weight for each of members'
    """

    of: str

    def __str__(self) -> str:
        return f"a weight for each of {self.of}"


Domain = Range | Choice | Simplex


@dataclass(frozen=True)
class Setting:
    """A field of a Config, as :func:`settings_of` lists it."""

    name: str
    type: object
    default: SettingValue
    domain: Domain | None
    affects: Affects
    minimum: float | None
    maximum: float | None
    when: Mapping[str, tuple[Scalar, ...]] = dataclasses.field(default_factory=dict)
    searched: bool = True


def tunable(
    default: T,
    domain: Domain | None = None,
    *,
    affects: Affects = "training",
    minimum: float | None = None,
    maximum: float | None = None,
    when: Mapping[str, tuple[Scalar, ...]] | None = None,
    searched: bool = True,
) -> T:
    """Declare a setting with its default; for the fields of a frozen dataclass.

    Parameters
    ----------
    default
        The value unless the user gives another.
    domain
        What a search draws from. A ``Choice`` also restricts the values that are allowed; a ``Range`` does
        not: ``minimum`` and ``maximum`` bound what is allowed.
    affects
        What a change invalidates: ``"training"``, ``"scoring"`` or ``"fusion"``.
    minimum, maximum
        Bounds of allowed values, inclusive.
    when
        Values of other settings, by name, for which this one has an effect; for other values a search leaves
        it at its default.
    searched
        False for a setting whose ``Choice`` restricts the values but is not to be searched.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     epochs: int = tunable(100, Range(20, 200, log=True), minimum=1)
    ...     mode: str = tunable("mean", Choice("mean", "max"), affects="fusion")
    >>> Config(epochs=30)
    Config(epochs=30, mode='mean')
    """
    metadata = {
        "domain": domain,
        "affects": affects,
        "minimum": minimum,
        "maximum": maximum,
        "when": when or {},
        "searched": searched and domain is not None,
    }
    return dataclasses.field(default=default, metadata=metadata)


def settings_of(config_class: type) -> dict[str, Setting]:
    """Return the settings of a Config class by name, in the order of declaration.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     epochs: int = tunable(100, Range(20, 200))
    >>> settings_of(Config)["epochs"].domain
    Range(low=20, high=200, log=False)
    """
    return dict(_settings_of(config_class))


@cache  # every key of a job asks for them
def _settings_of(config_class: type) -> dict[str, Setting]:
    hints = typing.get_type_hints(config_class)
    settings = {}
    for field in dataclasses.fields(config_class):
        if "affects" not in field.metadata:
            raise TypeError(f"{config_class.__qualname__}.{field.name} must be declared with tunable(...)")
        settings[field.name] = Setting(
            field.name, hints[field.name], typing.cast(SettingValue, field.default), **field.metadata
        )
    for setting in settings.values():
        for other in setting.when:
            if other not in settings:
                raise TypeError(
                    f"{config_class.__qualname__}.{setting.name} depends on {other!r}, which is not a setting"
                )
    return settings


def typed(value: object) -> str:
    """Return a setting's value as a user types it.

    Examples
    --------
    >>> typed(True), typed(None), typed(("a", "b"))
    ('true', 'none', 'a,b')
    """
    if isinstance(value, list | tuple):
        return ",".join(map(typed, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def assignments(settings: Mapping[str, object]) -> str:
    """Return settings as a user types them.

    Examples
    --------
    >>> assignments({"epochs": 30, "reproduction": True})
    'epochs=30 reproduction=true'
    """
    return " ".join(f"{name}={typed(value)}" for name, value in settings.items())


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """Split ``key=value`` words.

    Raises
    ------
    InputError
        A word has no ``=``, or a key is given twice.

    Examples
    --------
    >>> parse_assignments(["epochs=30", "mode=max"])
    {'epochs': '30', 'mode': 'max'}
    """
    parsed: dict[str, str] = {}
    for word in assignments:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError(f"--set {word!r} is not of the form key=value")
        if key in parsed:
            raise InputError(f"--set gives {key!r} twice: {parsed[key]!r} and {value!r}; give it once")
        parsed[key] = value
    return parsed


def checked(settings: Mapping[str, Setting], name: str, value: object, *, owner: str) -> SettingValue:
    """Convert ``value``, a Python value or text from the command line, to the setting's type and validate it.

    Raises
    ------
    InputError
        There is no such setting, or the value is of the wrong type or not allowed.

    Examples
    --------
    >>> epochs = Setting("epochs", int, 100, None, "training", minimum=1, maximum=None)
    >>> checked({"epochs": epochs}, "epochs", "30", owner="my-system")
    30
    >>> checked({"epochs": epochs}, "epochs", "0", owner="my-system")
    Traceback (most recent call last):
    asdbench.errors.InputError: my-system: epochs=0 is below the minimum of 1
    """
    if name not in settings:
        raise unknown_name("setting", name, settings, of=owner)
    setting = settings[name]
    allowed = _allowed_types(setting.type)
    try:
        converted = _convert(value, allowed)
    except ValueError:
        names = " or ".join(map(_type_name, allowed))
        raise InputError(f"{owner}: {name}={value!r} is not of type {names}") from None
    for item in converted if isinstance(converted, tuple) else (converted,):
        _check_value(setting, item, owner)
    return converted


def _check_value(setting: Setting, value: Scalar | None, owner: str) -> None:
    message = f"{owner}: {setting.name}={value!r}"
    if isinstance(setting.domain, Choice) and value not in setting.domain.options:
        options = ", ".join(str(option) for option in setting.domain.options)
        raise InputError(f"{message} is not one of: {options}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise InputError(f"{message} is not a finite number")
        if setting.minimum is not None and value < setting.minimum:
            raise InputError(f"{message} is below the minimum of {setting.minimum}")
        if setting.maximum is not None and value > setting.maximum:
            raise InputError(f"{message} is above the maximum of {setting.maximum}")


def make_config(config_class: type[T], values: Mapping[str, object], *, owner: str) -> T:
    """Return an instance of ``config_class`` with ``values`` over the defaults.

    Parameters
    ----------
    config_class
        Frozen dataclass whose fields are declared with :func:`tunable`.
    values
        Values by the name of the setting; text is converted.
    owner
        Name of the system, for messages.

    Raises
    ------
    InputError
        There is no such setting (the message names the nearest), or a value is of the wrong type or not
        allowed.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     epochs: int = tunable(100)
    >>> make_config(Config, {"epochs": "30"}, owner="my-system")
    Config(epochs=30)
    """
    settings = settings_of(config_class)
    converted = {name: checked(settings, name, value, owner=owner) for name, value in values.items()}
    return config_class(**converted)


def values_of(config: object, *affects: Affects) -> dict[str, SettingValue]:
    """Return the settings of ``config`` by name: all, or only those that affect what is named.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     epochs: int = tunable(100)
    ...     mode: str = tunable("mean", affects="fusion")
    >>> values_of(Config(), "fusion")
    {'mode': 'mean'}
    """
    return {
        name: getattr(config, name)
        for name, setting in settings_of(type(config)).items()
        if not affects or setting.affects in affects
    }


def _allowed_types(hint: object) -> tuple[type, ...]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return tuple({type(value) for value in typing.get_args(hint)})
    return (typing.cast(type, hint),)


def _type_name(kind: type) -> str:
    if typing.get_origin(kind) is tuple:
        return f"{_type_name(typing.get_args(kind)[0])},{_type_name(typing.get_args(kind)[0])},..."
    return "none" if kind is type(None) else kind.__name__


def _convert(value: object, allowed: tuple[type, ...]) -> SettingValue:
    """Return ``value`` as one of the allowed types; raise ``ValueError`` if it is none of them."""
    if type(None) in allowed and (value is None or value == "none"):
        return None
    for kind in allowed:
        if typing.get_origin(kind) is tuple:
            (item_type, *_) = typing.get_args(kind)
            return tuple(_convert_scalar(item, (item_type,)) for item in _items(value))
    return _convert_scalar(value, allowed)


def _items(value: object) -> list[object]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return list(value) if isinstance(value, list | tuple) else [value]


def _convert_scalar(value: object, allowed: tuple[type, ...]) -> Scalar:
    for kind in (bool, int, float, str):  # the narrowest type that fits the value
        converted = _as_type(value, kind) if kind in allowed else None
        if converted is not None:
            return converted
    raise ValueError


def _as_type(value: object, kind: type) -> Scalar | None:
    """Return ``value`` as a bool, int, float or str; ``None`` if it is none."""
    if kind is bool:
        if isinstance(value, str):
            return {"true": True, "false": False}.get(value.lower())
        return value if isinstance(value, bool) else None
    if kind is str:
        return value if isinstance(value, str) else None
    if isinstance(value, str):
        try:
            return int(value) if kind is int else float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind is int:
        return int(value) if float(value).is_integer() else None
    return float(value)
