"""The systems that can be run."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from asdbench import registry
from asdbench.config import SettingValue, assignments, settings_of, typed
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row

_COSTS = {"training": "retraining", "scoring": "rescoring", "fusion": "refusion"}


@dataclass(frozen=True)
class Systems(Report):
    """The systems of this installation: the files of ``systems/`` and those of other packages.

    Attributes
    ----------
    rows : one dict for each system: ``name``, ``source`` (its file or entry point), ``description``,
        ``presets`` (their names), and ``error``: why it cannot be used, ``None`` if it can
    """

    rows: tuple[Row, ...]

    @property
    def names(self) -> list[str]:
        """Names of the systems that can be used."""
        return [row["name"] for row in self.rows if row["error"] is None]

    @property
    def broken(self) -> Mapping[str, str]:
        """Why systems cannot be used, by name."""
        return {row["name"]: row["error"] for row in self.rows if row["error"] is not None}

    def tables(self) -> list[DisplayTable]:
        """Return a table with a row for each system; a broken one has the reason."""
        rows = [
            DisplayRow([row["name"], row["source"], row["description"], ", ".join(row["presets"])])
            if row["error"] is None
            else DisplayRow([row["name"], "", Text(f"broken: {row['error']}", style="red"), ""])
            for row in self.rows
        ]
        system = Column("system", no_wrap=True)
        headers = ("from", "description", "presets")
        narrow = [DisplayRow([row.cells[0], row.cells[2], row.cells[3]], row.is_bold) for row in rows]
        return [
            DisplayTable(
                [system, *map(Column, headers)],
                rows,
                narrow=DisplayTable([system, *map(Column, headers[1:])], narrow),
            )
        ]


@dataclass(frozen=True)
class Settings(Report):
    """The settings of a system, with its documentation.

    Attributes
    ----------
    system, documentation : name and documentation of the system
    rows : one dict for each setting: ``setting``, ``default``, ``search_space`` (``None`` if a search leaves
        it alone) and ``change_requires``: retraining, rescoring or refusion
    presets : the settings that differ from the defaults, by preset
    chosen_on : names of the data sets whose labels chose these settings, by preset
    method_chosen_on : those whose labels chose the method or its defaults
    """

    system: str
    documentation: str
    rows: tuple[Row, ...]
    presets: Mapping[str, Mapping[str, SettingValue]]
    chosen_on: Mapping[str, tuple[str, ...]]
    method_chosen_on: tuple[str, ...] = ()

    def tables(self) -> list[DisplayTable]:
        """Return a table with a row for each setting."""
        rows = [
            DisplayRow(
                [row["setting"], typed(row["default"]), row["search_space"] or "", row["change_requires"]]
            )
            for row in self.rows
        ]
        headers = ("setting", "default", "search space", "a change requires")
        return [DisplayTable([Column(header) for header in headers], rows)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for paragraph in self.documentation.split("\n\n"):
            is_list = "\n* " in f"\n{paragraph}"
            text = without_markup(paragraph)
            yield Text(text if is_list else " ".join(text.split()))
            yield ""
        yield from self.tables()
        if self.method_chosen_on:
            yield Text(f"method and defaults were chosen on the labels of {', '.join(self.method_chosen_on)}")
        for preset, changed in self.presets.items():
            chosen_on = self.chosen_on[preset]
            choice = f" (chosen on the labels of {', '.join(chosen_on)})" if chosen_on else ""
            yield Text(f"preset {preset}{choice}: {assignments(changed) or 'the defaults'}")


def without_markup(text: str) -> str:
    """Return reStructuredText without the marks of roles and of code, for a terminal.

    >>> without_markup("the loss of :mod:`asdbench.nn.adacos` with ``scale=log``")
    'the loss of asdbench.nn.adacos with scale=log'
    """
    return re.sub(r"(?::[a-z]+:)?(`{1,2})~?([^`]+)\1", r"\2", text)


def systems() -> Systems:
    """Return all systems, each with the first paragraph of its documentation.

    Examples
    --------
    >>> "baseline-mse" in asdbench.systems().names
    True
    """
    broken = registry.broken()
    return Systems(tuple(_described(name, broken.get(name)) for name in registry.names()))


def _described(name: str, error: Exception | None) -> Row:
    if error is not None:
        return {"name": name, "source": "", "description": "", "presets": [], "error": str(error)}
    documentation = (sys.modules[registry.get(name).__module__].__doc__ or "").strip()
    summary = without_markup(" ".join(documentation.partition("\n\n")[0].split()))
    return {
        "name": name,
        "source": registry.source(name).place,
        "description": summary,
        "presets": list(registry.presets_of(name)),
        "error": None,
    }


def settings(system: str) -> Settings:
    """Return the settings of a system and, if it reuses another's training, of the trained system.

    Raises :class:`InputError` for a system that does not exist or cannot be used.

    Examples
    --------
    >>> asdbench.settings("baseline-mse").frame["setting"].to_list()[:2]
    ['epochs', 'batch_size']
    """
    configured, presets = registry.configure(system), registry.presets_of(system)
    return Settings(
        system,
        (sys.modules[configured.system.__module__].__doc__ or "").strip(),
        tuple(
            {
                "setting": setting.name,
                "default": setting.default,
                "search_space": str(setting.domain) if setting.searched else None,
                "change_requires": _COSTS[setting.affects],
            }
            for part in (configured.trained, configured)
            if part
            for setting in settings_of(part.system.Config).values()
        ),
        {preset: registry.configure(system, preset=preset).changed() for preset in presets},
        {preset: given.chosen_on for preset, given in presets.items()},
        configured.system.chosen_on,
    )
