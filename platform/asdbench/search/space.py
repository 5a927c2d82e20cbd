"""The search space of a system, as Optuna parameters that its settings declare.

The space holds the settings with a domain, including those of the system that this one scores
(``training_of``), except settings that the user fixed by a preset or by name. A ``Range`` is a float or
integer parameter, logarithmic if declared so; a ``Choice`` is categorical. A setting with a condition
(``when``) is drawn only where it has an effect, so that no two trials differ in settings that change nothing.

The first trial is the untuned system. A range that does not contain the untuned value is extended to it.
"""

import graphlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from asdbench.config import Affects, Choice, Range, Setting, SettingValue, settings_of
from asdbench.errors import InputError, unknown_name
from asdbench.registry import Configured

Parameters: TypeAlias = dict[str, SettingValue]  # a drawn value per setting

_AT_MOST: Mapping[Affects, tuple[Affects, ...]] = {
    "training": ("training", "scoring", "fusion"),
    "scoring": ("scoring", "fusion"),
    "fusion": ("fusion",),
}
_REPEATED: Mapping[Affects, str] = {"training": "retraining", "scoring": "rescoring", "fusion": "refusion"}


class NothingToSearch(InputError):
    """A system has no setting that a search may draw."""


@dataclass(frozen=True)
class Space:
    """The search space of a system.

    Attributes
    ----------
    system : name of the system
    settings : the settings to draw, each after those that it depends on
    start : values of all settings of the untuned system
    """

    system: str
    settings: tuple[Setting, ...]
    start: Mapping[str, SettingValue]

    @classmethod
    def from_configured(
        cls,
        configured: Configured,
        *,
        fixed: Collection[str],
        max_cost: Affects = "training",
        only_settings: Sequence[str] = (),
    ) -> "Space":
        """Return the search space of a configured system.

        Parameters
        ----------
        configured : the system with its untuned settings
        fixed : names of settings to leave alone
        max_cost : the most that changing a setting may require: ``"training"``, ``"scoring"`` or ``"fusion"``
        only_settings : names of the settings to search, fixed or not; if empty, all that are not fixed

        Raises
        ------
        InputError
            The system is an ensemble, has nothing to search (:class:`NothingToSearch`), or a name in
            ``only_settings`` is not one of its searchable settings.
        """
        if configured.members:
            raise InputError(
                f"system {configured.name!r} is an ensemble and trains nothing; 'asdbench fuse' searches its "
                f"weights"
            )
        searchable = _searchable(configured, max_cost)
        for name in only_settings:
            if name not in searchable:
                raise unknown_name(f"searchable setting of {configured.name}:", name, searchable)
        chosen = {
            name: setting
            for name, setting in searchable.items()
            if (name in only_settings if only_settings else name not in fixed)
        }
        if not chosen:
            raise NothingToSearch(
                f"system {configured.name!r} has no setting to search that requires at most "
                f"{_REPEATED[max_cost]} and is not fixed by --preset or --set; "
                f"'asdbench systems {configured.name}' lists its settings"
            )
        return cls(configured.name, tuple(_dependent_last(chosen)), configured.values())

    def suggest(self, trial: optuna.trial.Trial) -> Parameters:
        """Let ``trial`` draw a value for each setting that has an effect."""
        drawn: Parameters = {}
        for setting in self.settings:
            if self._has_effect(setting, drawn):
                drawn[setting.name] = self._draw(setting, trial)
        return drawn

    def parameters(self, values: Mapping[str, SettingValue]) -> Parameters:
        """Return the parameters that :meth:`suggest` would draw to get these values of some settings."""
        drawn: Parameters = {}
        for setting in self.settings:
            if self._has_effect(setting, drawn):
                drawn[setting.name] = values.get(setting.name, self.start[setting.name])
        return drawn

    def distributions(self, parameters: Mapping[str, SettingValue]) -> dict[str, BaseDistribution]:
        """Return the Optuna distributions of some parameters."""
        by_name = {setting.name: setting for setting in self.settings}
        return {name: self._distribution(by_name[name]) for name in parameters}

    def describe(self) -> dict[str, str]:
        """Return a description of each setting's domain; it is part of the identity of a study."""
        return {s.name: f"{self._distribution(s)!r} when {dict(s.when)!r}" for s in self.settings}

    def _has_effect(self, setting: Setting, drawn: Mapping[str, SettingValue]) -> bool:
        return all(
            drawn.get(other, self.start[other]) in values for other, values in setting.when.items()
        ) and all(self._has_effect(other, drawn) for other in self.settings if other.name in setting.when)

    def _draw(self, setting: Setting, trial: optuna.trial.Trial) -> SettingValue:
        name, distribution = setting.name, self._distribution(setting)
        if isinstance(distribution, CategoricalDistribution):
            return trial.suggest_categorical(name, distribution.choices)
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)

    def _distribution(
        self, setting: Setting
    ) -> CategoricalDistribution | IntDistribution | FloatDistribution:
        domain, start = setting.domain, self.start[setting.name]
        if isinstance(domain, Choice):
            return CategoricalDistribution(domain.options)
        assert isinstance(domain, Range)
        assert isinstance(start, int | float)
        low, high = min(domain.low, start), max(domain.high, start)
        if setting.type is int:
            return IntDistribution(int(low), int(high), log=domain.log)
        return FloatDistribution(float(low), float(high), log=domain.log)


def _searchable(configured: Configured, max_cost: Affects) -> dict[str, Setting]:
    """Return all settings with a domain to draw from whose change requires at most ``max_cost``."""
    settings = settings_of(configured.system.Config)
    if configured.trained:
        settings = settings_of(configured.trained.system.Config) | settings
    return {
        name: setting
        for name, setting in settings.items()
        if setting.searched and setting.affects in _AT_MOST[max_cost] and _can_be_drawn(setting)
    }


def _can_be_drawn(setting: Setting) -> bool:
    return isinstance(setting.domain, Choice) or (
        isinstance(setting.domain, Range) and setting.type in (int, float)
    )


def _dependent_last(settings: Mapping[str, Setting]) -> list[Setting]:
    """Sort settings so that each comes after those that it depends on, otherwise in the given order."""
    sorter = graphlib.TopologicalSorter(
        {name: [other for other in setting.when if other in settings] for name, setting in settings.items()}
    )
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise TypeError(f"the settings {', '.join(error.args[1])} depend on each other in a cycle") from None
    ordered: list[Setting] = []
    while sorter.is_active():
        ready = set(sorter.get_ready())
        ordered += [setting for name, setting in settings.items() if name in ready]
        sorter.done(*ready)
    return ordered
