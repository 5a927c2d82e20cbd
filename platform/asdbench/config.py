"""Settings of a system: type, default, search domain and what a change costs, on one line each.

A system declares them as the fields of a frozen dataclass::

    @dataclass(frozen=True)
    class Config:
        epochs: int = tunable(100, Range(20, 200, log=True), minimum=1)
        maha_mode: str = tunable("released", Choice("released", "per_frame"), affects="fusion")

``affects`` says what has to be done again when the setting changes: ``"training"`` everything, ``"scoring"``
the anomaly scores of the trained model, ``"fusion"`` only how stored component scores are weighed.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from asdbench.errors import InputError, unknown_name

Affects = Literal["training", "scoring", "fusion"]
Scalar = bool | int | float | str
SettingValue = Scalar | None | tuple[Scalar, ...]  # a tuple is typed as a,b,c


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high`` that a search draws from; ``log`` for a logarithmic scale."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True, init=False)
class Choice:
    """The only values that a setting can have."""

    options: tuple[Scalar, ...]

    def __init__(self, *options: Scalar) -> None:
        object.__setattr__(self, "options", options)

    def __str__(self) -> str:
        return ", ".join(map(typed, self.options))


@dataclass(frozen=True)
class Simplex:
    """Weights that a search draws from all that sum to 1, one for each item of the setting ``of``."""

    of: str

    def __str__(self) -> str:
        return f"a weight for each of {self.of}"


Domain = Range | Choice | Simplex


@dataclass(frozen=True)
class Setting:
    """A field of a Config, as :func:`settings_of` lists it."""

    name: str
    type: Any
    default: Any
    domain: Domain | None
    affects: Affects
    minimum: float | None
    maximum: float | None
    when: Mapping[str, tuple[Scalar, ...]] = dataclasses.field(default_factory=dict)
    searched: bool = True


def tunable(
    default: Any,
    domain: Domain | None = None,
    *,
    affects: Affects = "training",
    minimum: float | None = None,
    maximum: float | None = None,
    when: Mapping[str, tuple[Scalar, ...]] | None = None,
    searched: bool = True,
) -> Any:
    """Declare a setting with its default.

    Parameters
    ----------
    default
        The value without any wish of the user's.
    domain
        What a search draws from. A ``Choice`` is also what is allowed at all; a ``Range`` is not, a user
        may leave it: ``minimum`` and ``maximum`` (inclusive) bound what is allowed.
    affects
        What a change makes necessary: ``"training"``, ``"scoring"`` or ``"fusion"``.
    minimum, maximum
        Bounds of allowed values, inclusive.
    when
        Values of other settings, by name, with which this one has an effect; with others a search leaves it
        at its default.
    searched
        False for a setting whose ``Choice`` says what is allowed and is nothing to search over.
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
    """Return the settings of a Config class by name, in the order of declaration."""
    hints = typing.get_type_hints(config_class)
    found = {}
    for field in dataclasses.fields(config_class):
        if "affects" not in field.metadata:
            raise TypeError(f"{config_class.__qualname__}.{field.name} must be declared with tunable(...)")
        found[field.name] = Setting(
            field.name, hints[field.name], field.default, **field.metadata
        )  # domain, affects, minimum, maximum, when, searched
    for setting in found.values():
        for other in setting.when:
            if other not in found:
                raise TypeError(
                    f"{config_class.__qualname__}.{setting.name} depends on {other!r}, which is no setting"
                )
    return found


def typed(value: Any) -> str:
    """Return a setting's value as one would type it: ``true``, ``none``, ``a,b,c``."""
    if isinstance(value, list | tuple):
        return ",".join(map(typed, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def assignments(settings: Mapping[str, Any]) -> str:
    """Return settings as one would type them: ``epochs=30 reproduction=true``."""
    return " ".join(f"{name}={typed(value)}" for name, value in settings.items())


def parse_assignments(assignments: Iterable[str]) -> dict[str, str]:
    """Split ``key=value`` words; a word without ``=`` or a key given twice is an :class:`InputError`."""
    parsed: dict[str, str] = {}
    for word in assignments:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise InputError(f"--set {word!r} is not of the form key=value")
        if key in parsed:
            raise InputError(f"--set gives {key!r} twice: {parsed[key]!r} and {value!r}")
        parsed[key] = value
    return parsed


def checked(settings: Mapping[str, Setting], name: str, value: Any, *, owner: str) -> Any:
    """Return ``value`` (a Python value, or a text from the command line) as the setting's type, validated."""
    if name not in settings:
        raise unknown_name(f"setting of {owner}", name, settings)
    setting = settings[name]
    allowed = _members(setting.type)
    converted = _convert(value, allowed)
    if converted is _FAILED:
        wanted = " or ".join(map(_type_name, allowed))
        raise InputError(f"{owner}: {name}={value!r} is not of type {wanted}")
    for item in converted if isinstance(converted, tuple) else (converted,):
        _check_value(setting, item, owner)
    return converted


def _check_value(setting: Setting, value: Any, owner: str) -> None:
    said = f"{owner}: {setting.name}={value!r}"
    if isinstance(setting.domain, Choice) and value not in setting.domain.options:
        options = ", ".join(str(option) for option in setting.domain.options)
        raise InputError(f"{said} is not one of: {options}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise InputError(f"{said} is not a finite number")
        if setting.minimum is not None and value < setting.minimum:
            raise InputError(f"{said} is below the least allowed value, {setting.minimum}")
        if setting.maximum is not None and value > setting.maximum:
            raise InputError(f"{said} is above the highest allowed value, {setting.maximum}")


def make_config(config_class: type, values: Mapping[str, Any], *, owner: str) -> Any:
    """Return an instance of ``config_class`` with ``values`` over the defaults.

    ``owner`` (a system's name) is what errors speak of. Raises :class:`InputError` for an unknown setting
    (with the nearest existing name), a value of the wrong type or outside what is allowed.
    """
    settings = settings_of(config_class)
    return config_class(
        **{name: checked(settings, name, value, owner=owner) for name, value in values.items()}
    )


def values_of(config: Any, *affects: Affects) -> dict[str, Any]:
    """Return the settings of ``config`` as a dict: all, or only those that affect what is named."""
    return {
        name: getattr(config, name)
        for name, setting in settings_of(type(config)).items()
        if not affects or setting.affects in affects
    }


_FAILED: Any = object()


def _members(hint: Any) -> tuple[type, ...]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return tuple(typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return tuple({type(value) for value in typing.get_args(hint)})
    return (hint,)


def _type_name(kind: type) -> str:
    if typing.get_origin(kind) is tuple:
        return f"{_type_name(typing.get_args(kind)[0])},{_type_name(typing.get_args(kind)[0])},..."
    return "none" if kind is type(None) else kind.__name__


def _convert_tuple(value: Any, of: tuple[type, ...]) -> Any:
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",") if item.strip()]
    if not isinstance(value, list | tuple):
        value = [value]
    converted = tuple(_convert(item, of) for item in value)
    return _FAILED if _FAILED in converted else converted


def _convert(value: Any, allowed: tuple[type, ...]) -> Any:
    if type(None) in allowed and (value is None or value == "none"):
        return None
    for kind in allowed:
        if typing.get_origin(kind) is tuple:
            return _convert_tuple(value, typing.get_args(kind)[:1])
    for kind in (bool, int, float, str):  # the narrowest type that takes the value
        if kind not in allowed:
            continue
        if kind is bool:
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in ("true", "false"):
                return value.lower() == "true"
        elif kind is str:
            if isinstance(value, str):
                return value
        elif isinstance(value, str):
            try:
                return kind(value)
            except ValueError:
                continue
        elif (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and (kind is float or float(value).is_integer())
        ):
            return kind(value)
    return _FAILED
