"""The search space that a system's own settings declare, as Optuna parameters.

What is searched: the settings with a domain, those of the system that one scores (``training_of``) included.
A setting that the user has fixed, by a preset or by name, is not. ``Range`` is a float or integer parameter,
on a logarithmic scale if it says so, ``Choice`` a categorical one. A setting that depends on others
(``when``) is drawn only where it has an effect; elsewhere it stays as it is, so that no two trials differ in
nothing.

The warm start is what the system runs with untuned. Where that lies outside a range, the range is widened to
it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from asdbench.config import Affects, Choice, Range, Scalar, Setting, settings_of
from asdbench.errors import InputError, unknown_name
from asdbench.registry import Configured

_DEPTHS: Mapping[Affects, tuple[Affects, ...]] = {
    "training": ("training", "scoring", "fusion"),
    "scoring": ("scoring", "fusion"),
    "fusion": ("fusion",),
}


@dataclass(frozen=True)
class Space:
    """What is searched of a system.

    Attributes
    ----------
    system : its name
    settings : the settings that are drawn, each after those that it depends on
    start : the values that the system has untuned, of all its settings
    """

    system: str
    settings: tuple[Setting, ...]
    start: Mapping[str, Any]

    def suggest(self, trial: optuna.trial.Trial) -> dict[str, Any]:
        """Return a value of every setting that has an effect, drawn by ``trial``."""
        drawn: dict[str, Any] = {}
        for setting in self.settings:
            if self._has_effect(setting, drawn):
                drawn[setting.name] = self._draw(setting, trial)
        return drawn

    def parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what :meth:`suggest` would have had to draw for these values of settings (all or some)."""
        drawn: dict[str, Any] = {}
        for setting in self.settings:
            if self._has_effect(setting, drawn):
                drawn[setting.name] = values.get(setting.name, self.start[setting.name])
        return drawn

    def distributions(
        self, parameters: Mapping[str, Any]
    ) -> dict[str, optuna.distributions.BaseDistribution]:
        """Return the Optuna distributions of some parameters."""
        by_name = {setting.name: setting for setting in self.settings}
        return {name: self._distribution(by_name[name]) for name in parameters}

    def describe(self) -> dict[str, str]:
        """Return the domain of every setting in words; a search with other words is another search."""
        return {s.name: f"{self._distribution(s)!r} when {dict(s.when)!r}" for s in self.settings}

    def _has_effect(self, setting: Setting, drawn: Mapping[str, Any]) -> bool:
        return all(
            drawn.get(other, self.start[other]) in values for other, values in setting.when.items()
        ) and all(self._has_effect(other, drawn) for other in self.settings if other.name in setting.when)

    def _draw(self, setting: Setting, trial: optuna.trial.Trial) -> Scalar | None:
        name, of = setting.name, self._distribution(setting)
        if isinstance(of, optuna.distributions.CategoricalDistribution):
            return trial.suggest_categorical(name, of.choices)
        if isinstance(of, optuna.distributions.IntDistribution):
            return trial.suggest_int(name, of.low, of.high, log=of.log)
        return trial.suggest_float(name, of.low, of.high, log=of.log)

    def _distribution(self, setting: Setting) -> Any:
        domain, start = setting.domain, self.start[setting.name]
        if isinstance(domain, Choice):
            return optuna.distributions.CategoricalDistribution(domain.options)
        assert isinstance(domain, Range)
        low, high = min(domain.low, start), max(domain.high, start)
        if setting.type is int:
            return optuna.distributions.IntDistribution(int(low), int(high), log=domain.log)
        return optuna.distributions.FloatDistribution(float(low), float(high), log=domain.log)


class NothingToSearch(InputError):
    """A system without a setting that a search may draw."""


def space_of(
    configured: Configured, *, fixed: Collection[str], affects: Affects = "training", over: Sequence[str] = ()
) -> Space:
    """Return the search space of a system.

    Parameters
    ----------
    configured : the system with the settings that it has untuned
    fixed : names of settings that are left as they are
    affects : the most that a change may cost: ``"training"`` anew, ``"scoring"`` anew, or ``"fusion"``
    over : names of the settings to search, whether fixed or not; all that are not fixed if empty

    Raises
    ------
    InputError
        The system is an ensemble, has nothing to search (:class:`NothingToSearch`), or a name of ``over`` is
        no setting of it that can be searched.
    """
    if configured.members:
        raise InputError(
            f"system {configured.name!r} is an ensemble and trains nothing; 'asdbench fuse' searches its "
            f"weights"
        )
    known = settings_of(configured.system.Config)
    if configured.trained:
        known = settings_of(configured.trained.system.Config) | known
    searchable = {
        name: setting
        for name, setting in known.items()
        if setting.searched and setting.affects in _DEPTHS[affects] and _can_be_drawn(setting)
    }
    for name in over:
        if name not in searchable:
            raise unknown_name(f"setting of {configured.name} that can be searched:", name, searchable)
    wanted = {n: s for n, s in searchable.items() if (n in over if over else n not in fixed)}
    if not wanted:
        raise NothingToSearch(
            f"system {configured.name!r} has no setting to search whose change means at most {affects} anew "
            f"and that is not fixed by --preset or --set; 'asdbench systems {configured.name}' lists them"
        )
    return Space(configured.name, tuple(_dependent_last(wanted)), configured.values())


def _can_be_drawn(setting: Setting) -> bool:
    return isinstance(setting.domain, Choice) or (
        isinstance(setting.domain, Range) and setting.type in (int, float)
    )


def _dependent_last(settings: Mapping[str, Setting]) -> list[Setting]:
    ordered: dict[str, Setting] = {}
    waiting = dict(settings)
    while waiting:
        ready = [n for n, s in waiting.items() if all(o in ordered or o not in settings for o in s.when)]
        if not ready:
            raise TypeError(f"the settings {', '.join(waiting)} depend on one another in a circle")
        for name in ready:
            ordered[name] = waiting.pop(name)
    return list(ordered.values())
