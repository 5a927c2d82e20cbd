"""Presets and variants: named settings of a system, and members of an ensemble with settings of their own.

A preset is named by its system (``System.presets``). Several are given as ``fast,altered``; where both have a
setting, the later one counts.

A variant is a member of an ensemble, written ``system@word:word:...``. A word is a preset of the system, one
of its settings as ``name=value``, or ``seed=k``, which adds k to the seed of the ensemble::

    multitask-combined@backend=mahalanobis-shared:classifier_weight=0
    multitask-mel@fast:steps=50
    baseline-mse@seed=1
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from asdbench.errors import InputError

COST_PRESETS = ("report", "fast", "demo")  # a run may name these for systems that have no such preset
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Preset:
    """Named settings of a system, and the data whose labels chose them.

    Attributes
    ----------
    settings
        Values by the name of the setting.
    chosen_on
        Names of the data sets whose development labels were looked at when the settings were chosen. The
        leaderboards of these data sets mark the rows that have the settings.

    Examples
    --------
    >>> Preset({"backend": "lof"}, chosen_on=("demo",)).chosen_on
    ('demo',)
    """

    settings: Mapping[str, object]
    chosen_on: tuple[str, ...] = ()


def is_preset_name(name: str) -> bool:
    """Return whether a preset may have this name: lowercase letters, digits and hyphens.

    >>> is_preset_name("per-frame"), is_preset_name("fast,altered")
    (True, False)
    """
    return _NAME.fullmatch(name) is not None


def split_presets(presets: str | None) -> list[str]:
    """Return the names in a list of presets as a user types it.

    >>> split_presets("fast,altered"), split_presets(None)
    (['fast', 'altered'], [])
    """
    return [name.strip() for name in presets.split(",")] if presets else []


@dataclass(frozen=True)
class Variant:
    """A member of an ensemble.

    Attributes
    ----------
    text
        The member as the ensemble names it.
    system
        Name of the system.
    presets
        Presets of the system, over those of the run.
    settings
        Settings of the system that nothing else changes.
    seed_offset
        What is added to the seed of the ensemble.
    """

    text: str
    system: str
    presets: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    seed_offset: int = 0

    @classmethod
    def from_text(cls, text: str) -> "Variant":
        """Return the member that a text names.

        Raises
        ------
        InputError
            A word after the ``@`` is empty, a setting is given twice, or the seed is no whole number from 0.

        Examples
        --------
        >>> Variant.from_text("multitask-mel@fast:steps=50:seed=1").settings
        {'steps': '50'}
        >>> Variant.from_text("baseline-mse").system
        'baseline-mse'
        """
        system, at, rest = text.partition("@")
        words = rest.split(":") if at else []
        if not all(words) or any(word.startswith("=") for word in words):
            raise InputError(
                f"member {text!r} has an empty word after '@'; write it like "
                f"'{system}@preset:setting=value:seed=1'"
            )
        values = _assigned(text, [word for word in words if "=" in word])
        offset = values.pop("seed", "0")
        if not re.fullmatch(r"[0-9]{1,9}", offset):
            raise InputError(
                f"member {text!r}: seed={offset} is added to the seed of the run; give a whole number from 0"
            )
        presets = tuple(word for word in words if "=" not in word)
        return cls(text, system, presets, values, int(offset))


def _assigned(text: str, words: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in values:
            raise InputError(f"member {text!r} gives {name!r} twice; give it once")
        values[name] = value
    return values
