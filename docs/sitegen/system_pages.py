"""Pages of the systems: an overview, and one per system with its settings, presets and citation."""

import re
import sys
from collections.abc import Iterator

from asdbench import registry
from asdbench.config import Setting, assignments, settings_of, typed
from asdbench.registry import Configured
from sitegen.markdown import as_markdown, code, table

_COST = {"training": "retraining", "scoring": "rescoring", "fusion": "refusion"}
_HEADERS = ("setting", "default", "allowed", "search space", "has an effect for", "a change requires")
_INTRODUCTION = """# Systems

A system is one file. These come with asdbench; `asdbench systems` also lists those that you
add. [Systems](../../systems.md) gives
the source of each default and what we measured."""


def system_pages() -> dict[str, str]:
    """Return the pages of all systems that can be used, by their place in the site."""
    systems = [registry.configure(name) for name in registry.names()]
    rows = [(f"[`{system.name}`]({system.name}.md)", _summary(system)) for system in systems]
    overview = f"{_INTRODUCTION}\n\n{table(['system', 'description'], rows)}\n"
    pages = {f"reference/systems/{system.name}.md": system_page(system) for system in systems}
    return {"reference/systems/index.md": overview, **pages}


def system_page(system: Configured) -> str:
    """Return the page of one system."""
    return "\n\n".join(_parts(system)) + "\n"


def _parts(system: Configured) -> Iterator[str]:
    yield f"# {system.name}"
    yield _linked(_docstring(system))
    yield f"Source: `{registry.source(system.name).place}`."
    if system.system.chosen_on:
        names = ", ".join(map(code, system.system.chosen_on))
        yield f"The method and its defaults were chosen with the labels of these data sets in sight: {names}."
    yield f"```sh\nasdbench run {system.name} --data demo --preset demo\n```"
    yield "## Settings"
    yield (
        "`--set NAME=VALUE` gives a setting another value. `asdbench tune` searches those with a search "
        "space. The last column says what a change requires of a stored run."
    )
    yield _settings(system)
    if system.trained is not None:
        yield f"It scores the model that `{system.trained.name}` trains, so it also takes these settings:"
        yield _settings(system.trained)
    if system.members:
        members = ", ".join(f"[`{member.member_name}`]({member.name}.md)" for member in system.members)
        yield f"It also takes the settings of its members: {members}."
    presets = registry.presets_of(system.name)
    if presets:
        yield "## Presets"
        rows = [
            (code(name), code(_changes(system, name)) or "none", ", ".join(preset.chosen_on))
            for name, preset in presets.items()
        ]
        yield table(["preset", "changed settings", "chosen on the labels of"], rows)
    if system.system.citation:
        yield "## Citation"
        yield f"```bibtex\n{system.system.citation.strip()}\n```"


def _settings(system: Configured) -> str:
    rows = [_row(setting) for setting in settings_of(system.system.Config).values()]
    if not rows:
        return "It has no settings of its own."
    columns = [column for column in zip(_HEADERS, *rows, strict=True) if any(column[1:])]
    headers, *filled = zip(*columns, strict=True)
    return table(headers, filled)


def _row(setting: Setting) -> tuple[str, ...]:
    conditions = [f"`{name}` = {' or '.join(map(typed, values))}" for name, values in setting.when.items()]
    return (
        code(setting.name),
        code(typed(setting.default)),
        _allowed(setting),
        str(setting.domain) if setting.searched else "",
        ", ".join(conditions),
        _COST[setting.affects],
    )


def _allowed(setting: Setting) -> str:
    """Return the values that a setting may have, as far as its declaration bounds them."""
    if not setting.searched and setting.domain is not None:
        return str(setting.domain)
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", setting.minimum), ("at most", setting.maximum))
        if bound is not None
    ]
    return ", ".join(bounds)


def _changes(system: Configured, preset: str) -> str:
    return assignments(registry.configure(system.name, preset=preset).changed())


def _summary(system: Configured) -> str:
    return " ".join(as_markdown(_docstring(system)).partition("\n\n")[0].split())


def _docstring(system: Configured) -> str:
    return (sys.modules[system.system.__module__].__doc__ or "").strip()


def _linked(docstring: str) -> str:
    """Return a docstring with links to the pages that it names."""
    return re.sub(r"\bdocs/(\w+)\.md", r"[docs/\1.md](../../\1.md)", as_markdown(docstring))
