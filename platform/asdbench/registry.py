"""Systems by name: the files of ``systems/`` and the entry point group ``asdbench.systems``.

The file ``multitask_mel.py`` is the system ``multitask-mel``. Any other package adds a system with::

    [project.entry-points."asdbench.systems"]
    my-system = "my_package.my_module:MySystem"

Listing the names imports nothing; :func:`get` imports a system's module. It rejects a system whose code, or a
module of its own package that this imports, imports a part of asdbench that holds data, scores or labels. The
check protects an honest author from a leak; it is not a sandbox.
"""

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

from asdbench import source_code
from asdbench.config import Setting, checked, make_config, settings_of, values_of
from asdbench.errors import InputError, unknown_name
from asdbench.presets import COST_PRESETS, Preset, Variant, is_preset_name, split_presets

if TYPE_CHECKING:
    from asdbench.system import InputSpec, System, TrainingFacts

ENTRY_POINTS = "asdbench.systems"
_ROOMS_IN_SOURCE_HASH = (
    "asdbench.nn",
    "asdbench.backends",
    "asdbench.features",
    "asdbench.system",
    "asdbench.spec",
    "asdbench.random_by_row",
)
_OPEN_ROOMS = (  # the rest is closed to systems
    *_ROOMS_IN_SOURCE_HASH,
    "asdbench.config",
    "asdbench.errors",
    "asdbench.presets",
)
_UNCHANGED: Any = object()


@dataclass(frozen=True)
class SystemSource:
    """The origin of a system.

    Attributes
    ----------
    module : the module to import
    attribute : the class in it; ``None`` for its only system
    place : the origin as messages name it
    """

    module: str
    attribute: str | None
    place: str


def names() -> list[str]:
    """Return the names of all systems, sorted.

    Examples
    --------
    >>> "multitask-mel" in names()
    True
    """
    return sorted(_sources())


def source(name: str) -> SystemSource:
    """Return the origin of system ``name``.

    Raises
    ------
    InputError
        There is no such system, or it is defined twice.

    Examples
    --------
    >>> source("baseline-mse").place
    'systems/baseline_mse.py'
    """
    sources = _sources()
    if name not in sources:
        raise unknown_name("system", name, sources)
    origins = sources[name]
    if len(origins) > 1:
        listed = " and ".join(origin.place for origin in origins)
        raise InputError(f"system {name!r} is defined twice, by {listed}; rename or uninstall one of them")
    return origins[0]


@cache
def get(name: str) -> "type[System]":
    """Import and return the class of system ``name``.

    Raises
    ------
    InputError
        The name is unknown or defined twice; the module cannot be imported, does not define exactly one
        system or imports a part of asdbench that is closed to systems; or the class breaks the contract.
    """
    origin = source(name)
    try:
        module = importlib.import_module(origin.module)
    except (Exception, SystemExit) as error:
        line = _failing_line(error, origin.module)
        raise InputError(f"system {name!r} ({origin.place}) cannot be imported: {error!r}{line}") from error
    for seen, code in source_code.code_of(origin.module, _own_rooms(origin.module)):
        for room in sorted(source_code.imported(code, source_code.package_of(seen), ("asdbench",))):
            if room == "asdbench" or source_code.is_within(room, _OPEN_ROOMS):
                continue
            raise InputError(
                f"system {name!r} ({origin.place}) imports {room} in {seen}; a system sees neither data sets "
                f"nor labels, so remove that import"
            )
    system = _class_in(module, name, origin)
    flaw = _flaw(system)
    if flaw is not None:
        raise InputError(f"system {name!r} ({origin.place}) cannot be used: {flaw}")
    return system


def broken() -> dict[str, InputError]:
    """Import all systems and return the errors of those that cannot be used, by name."""
    reasons = {}
    for name in names():
        try:
            configure(name)
        except InputError as error:
            reasons[name] = error
    return reasons


def plugin_modules() -> list[Path]:
    """Return where the systems' code is: the folders of `systems`, and the top-level modules of plugins.

    A plugin is an installed package with an entry point; its own top-level module is a folder or a ``.py``
    file. What else the plugin imports is not listed.

    >>> [path.name for path in plugin_modules()][:1]
    ['systems']
    """
    modules = sorted({entry.module.partition(".")[0] for entry in _entry_points()})
    paths = _system_folders()
    for spec in filter(None, map(_top_level_spec, modules)):
        files = [spec.origin] if spec.origin and spec.origin.endswith(".py") else []
        paths += map(Path, spec.submodule_search_locations or files)
    return paths


def plugin_metadata() -> dict[str, str]:
    """Return the entry points of installed plugins: the text of ``entry_points.txt`` by name and version.

    The names are those of folders that :mod:`importlib.metadata` recognizes, without their suffix.
    """
    return {
        f"{re.sub('[-_.]+', '_', entry.dist.name)}-{entry.dist.version}": text
        for entry in _entry_points()
        if entry.dist and (text := entry.dist.read_text("entry_points.txt"))
    }


def _failing_line(error: BaseException, module: str) -> str:
    """Return the line of a module's file in which its import failed, for a message; empty if unknown."""
    spec = importlib.util.find_spec(module)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if spec and frame.filename == spec.origin]
    return f", in line {lines[-1]}" if lines else ""


def _class_in(module: ModuleType, name: str, origin: SystemSource) -> "type[System]":
    """Return the class of a system in its module."""
    from asdbench.system import System

    if origin.attribute is not None:
        member = getattr(module, origin.attribute, None)
        if not (isinstance(member, type) and issubclass(member, System)):
            raise InputError(f"system {name!r} ({origin.place}) is not a subclass of asdbench.System")
        return member
    classes = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, System) and member.__module__ == module.__name__
    ]
    if len(classes) != 1:
        raise InputError(
            f"{origin.place} must define exactly one subclass of System; it defines {len(classes)}"
        )
    return classes[0]


def _flaw(system: "type[System]") -> str | None:
    """Return how a class breaks the contract in :mod:`asdbench.system`; ``None`` if it keeps it."""
    from asdbench.system import Scope, System

    config = getattr(system, "Config", None)
    if not (
        isinstance(config, type) and dataclasses.is_dataclass(config) and config.__dataclass_params__.frozen  # type: ignore[attr-defined]
    ):
        return (
            f"{system.__name__}.Config must be a dataclass declared with @dataclass(frozen=True); "
            f"write class {system.__name__}(System[Config])"
        )
    try:
        settings_of(config)
    except (TypeError, NameError) as error:
        return f"{error} (in {system.__name__}.Config)"
    for preset, given in system.presets.items():
        if not is_preset_name(preset) or not isinstance(given, Preset | Mapping):
            return (
                f"{system.__name__}.presets has {preset!r}: {given!r}; a preset has a name of lowercase "
                f"letters, digits and hyphens, and is a dict of settings or an asdbench.Preset"
            )
    flaw = _provenance_flaw(system)
    if flaw is not None:
        return flaw
    if system.scope not in get_args(Scope):
        allowed = " or ".join(map(repr, get_args(Scope)))
        return f"{system.__name__}.scope is {system.scope!r}; it must be {allowed}"
    for member in ("fusion", "window_pooling", "pretrained"):
        if not inspect.ismethod(getattr(system, member)):
            return f"{system.__name__}.{member} must be a @classmethod"
    required: tuple[str, ...] = ("input_spec", "batch_plan", "stages", "components")
    if _is_ensemble(system):
        required = ("members", "combine")
    elif system.training_of:
        required = ("components",)
    for member in required:
        if member == "components" and system.has_window_components():
            continue
        if inspect.getattr_static(system, member) is inspect.getattr_static(System, member):
            return f"{system.__name__} must define {member}, see asdbench.system.System"
        if member in ("input_spec", "batch_plan", "members", "combine") and not inspect.ismethod(
            getattr(system, member)
        ):
            return f"{system.__name__}.{member} must be a @classmethod"
    return None


@dataclass(frozen=True)
class Configured:
    """A system with its settings, those of the system that it scores and those of its members.

    A member that an ensemble names with presets, settings or a seed of its own has a ``variant``.
    """

    name: str
    system: "type[System]"
    config: Any
    trained: "Configured | None"
    members: tuple["Configured", ...] = ()
    variant: Variant | None = None

    @property
    def member_name(self) -> str:
        """The name by which an ensemble knows this member."""
        return self.variant.text if self.variant else self.name

    @property
    def seed_offset(self) -> int:
        """What is added to the seed of an ensemble for this member."""
        return self.variant.seed_offset if self.variant else 0

    @property
    def trainer(self) -> "Configured":
        """The system whose training this one uses: its own or that of ``training_of``."""
        return self.trained or self

    @property
    def input_spec(self) -> "InputSpec":
        """What the trained system reads of each clip."""
        return self.trainer.system.input_spec(self.trainer.config)

    def build_trained(self, facts: "TrainingFacts") -> "System":
        """Return the system that is trained, with initial weights from the current random state."""
        return self.trainer.system(self.trainer.config, facts)

    def build_scorer(self, trained: "System") -> "System":
        """Return the system that scores ``trained``: itself, or this one around it."""
        if self.trained is None:
            return trained
        return self.system(self.config, trained.facts, trained)  # type: ignore[call-arg]

    def own_values(self, *affects: Any) -> dict[str, Any]:
        """Return the settings, those of the trained system included, that affect what is named (or all)."""
        inherited = values_of(self.trained.config, *affects) if self.trained else {}
        return inherited | values_of(self.config, *affects)

    def values(self, *affects: Any) -> dict[str, Any]:
        """Return the own settings and those of an ensemble's members, as ``<member>.<setting>``."""
        return self.own_values(*affects) | {
            f"{member.member_name}.{name}": value
            for member in self.members
            for name, value in member.values(*affects).items()
        }

    def changed(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults, as :func:`configure` takes them.

        A setting that is changed alike in all members that have it is named once, without a member. What the
        name of a member says already is left out.
        """
        settings = _settings(self.system)
        changed = {n: value for n, value in self.own_values().items() if value != settings[n].default}
        of_members = {member.member_name: member._beyond_variant() for member in self.members}
        for member, values in of_members.items():
            for name, value in values.items():
                owners = [other.member_name for other in self.members if name in _settings(other.system)]
                alike = all(of_members[owner].get(name, _UNCHANGED) == value for owner in owners)
                changed[name if alike and name not in settings else f"{member}.{name}"] = value
        return changed

    def _beyond_variant(self) -> dict[str, Any]:
        """Return the settings that differ from those of the same member without any preset or setting."""
        if self.variant is None:
            return self.changed()
        given = _member(self.variant.text, {}, None).own_values()
        return {name: value for name, value in self.own_values().items() if value != given[name]}

    def takes_pseudo_anomalies(self) -> bool:
        """Whether training takes pseudo-anomalies from other machine types, for itself or for a member."""
        if self.members:
            return any(member.takes_pseudo_anomalies() for member in self.members)
        return self.trainer.system.batch_plan(self.trainer.config).pseudo_anomaly_share > 0

    def is_transductive(self) -> bool:
        """Whether a clip's score may depend on the other test clips, in this system or in a member of it."""
        return self.system.transductive or any(member.is_transductive() for member in self.members)

    def chosen_on(self) -> set[str]:
        """Return the data sets whose labels chose this system or settings that it has, or those of a member.

        These are the settings of presets with ``chosen_on``, however they were requested.
        """
        names = {*self.system.chosen_on, *(self.trained.system.chosen_on if self.trained else ())}
        names |= {name for member in self.members for name in member.chosen_on()}
        values, settings = self.own_values(), _settings(self.system)
        for preset in presets_of(self.name).values():
            chosen = {
                name: checked(settings, name, value, owner=self.name)
                for name, value in (preset.settings.items() if preset.chosen_on else ())
            }
            is_default = all(settings[name].default == value for name, value in chosen.items())
            if not is_default and chosen.items() <= values.items():
                names |= set(preset.chosen_on)
        return names

    def accepts(self, name: str) -> bool:
        """Whether :func:`configure` takes a setting of this name."""
        return name in _accepted(self.system, [member.member_name for member in self.members])


def presets_of(name: str) -> dict[str, Preset]:
    """Return the presets of system ``name``, with those of the system that it scores.

    Examples
    --------
    >>> presets_of("baseline-maha")["demo"].settings
    {'epochs': 60}
    """
    system = get(name)
    presets: dict[str, Preset] = {}
    for origin in (get(system.training_of) if system.training_of else None, system):
        for preset, given in origin.presets.items() if origin else ():
            new = given if isinstance(given, Preset) else Preset(given)
            old = presets.get(preset, Preset({}))
            chosen_on = tuple(dict.fromkeys([*old.chosen_on, *new.chosen_on]))
            presets[preset] = Preset({**old.settings, **new.settings}, chosen_on)
    return presets


def preset_settings(name: str, preset: str | None) -> dict[str, object]:
    """Return the settings that presets, as ``fast,altered``, have for system ``name``, if it has them.

    Examples
    --------
    >>> preset_settings("baseline-mse", "demo,report")
    {'epochs': 60}
    """
    settings: dict[str, object] = {}
    known = presets_of(name) if preset else {}
    for one in split_presets(preset):
        settings |= known[one].settings if one in known else {}
    return settings


def check_preset(preset: str | None, systems: Iterable[str]) -> None:
    """Raise :class:`InputError` for a preset that none of ``systems`` has.

    ``report``, ``fast`` and ``demo`` exist for all systems; one that lacks them keeps its defaults.
    """
    if preset is None:
        return
    known = {*COST_PRESETS, *(name for system in systems for name in presets_of(system))}
    for name in split_presets(preset):
        if name not in known:
            raise unknown_name("preset", name, known)


def all_presets() -> set[str]:
    """Return the names of the presets of all systems that can be used.

    Examples
    --------
    >>> "fast" in all_presets()
    True
    """
    broken_names = broken()
    return {*COST_PRESETS, *(p for name in names() if name not in broken_names for p in presets_of(name))}


def configure(
    name: str, values: Mapping[str, object] | None = None, *, preset: str | None = None
) -> Configured:
    """Return system ``name`` with a preset's settings, if it has that preset, and ``values`` over them.

    Settings of the system named by ``training_of`` are settings of this one too. An ensemble takes those of
    its members: as ``steps`` for all members that have it, as ``multitask-mel.steps`` for one. Raises
    :class:`InputError` for an unknown system or setting, or a value that is not allowed.
    """
    if _is_ensemble(get(name)):
        return _configure_ensemble(name, values or {}, preset)
    system = get(name)
    trainer = get(system.training_of) if system.training_of else None
    own = settings_of(system.Config)
    inherited = settings_of(trainer.Config) if trainer else {}
    both = own.keys() & inherited.keys()
    if both:
        raise InputError(
            f"system {name!r} redefines settings of {system.training_of!r}: {', '.join(sorted(both))}"
        )
    if trainer is not None:
        for setting in own.values():
            if setting.affects == "training":
                raise InputError(
                    f"system {name!r} trains nothing of its own, so its setting {setting.name!r} must be "
                    f"declared with affects='scoring' or affects='fusion'"
                )
    requested = preset_settings(name, preset) | dict(values or {})
    known = inherited | own
    checked_values = {key: checked(known, key, value, owner=name) for key, value in requested.items()}
    trained = None
    if trainer is not None and system.training_of is not None:
        config = trainer.Config(**{k: v for k, v in checked_values.items() if k in inherited})
        trained = Configured(system.training_of, trainer, config, None)
    config = system.Config(**{k: v for k, v in checked_values.items() if k in own})
    for part in (trained, Configured(name, system, config, trained)):
        if part is not None:
            _check_declarations(part)
    return Configured(name, system, config, trained)


def _check_declarations(configured: Configured) -> None:
    """Raise :class:`InputError` for declarations that cannot work, or not with these settings."""
    from asdbench.system import Pooling, System

    name, system, known = configured.name, configured.system, get_args(Pooling)
    try:
        pooling, weights = system.window_pooling(configured.config), system.pretrained(configured.config)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"system {name!r}: window_pooling and pretrained of {system.__name__} must accept a Config, and "
            f"one raises {error!r}"
        ) from error
    if pooling not in known:
        raise InputError(
            f"system {name!r}: {system.__name__}.window_pooling returns {pooling!r}; return one of "
            f"{', '.join(map(repr, known))}"
        )
    if weights and not system.training_of and system.load_pretrained is System.load_pretrained:
        raise InputError(
            f"system {name!r}: {system.__name__} must define load_pretrained(self, weights), because "
            f"pretrained names weights"
        )


def configure_each(
    names: Iterable[str], values: Mapping[str, object], *, preset: str | None = None
) -> dict[str, Configured]:
    """Return systems by name, each configured with a preset and those of ``values`` that it has.

    Raises :class:`InputError` for a setting or preset that none of them has, and as :func:`configure` does.
    """
    configs: dict[str, Any] = {}
    accepted: dict[str, set[str]] = {}
    systems: list[str] = []
    names = list(dict.fromkeys(names))
    for name in names:
        system = get(name)
        members: tuple[str, ...] = ()
        if _is_ensemble(system):
            configs[name] = _ensemble_config(name, values, preset)
            members = _member_names(name, configs[name])
        accepted[name] = _accepted(system, members)
        systems += [name, *(Variant.from_text(member).system for member in members)]
    check_preset(preset, systems)
    for key in values:
        if not any(key in keys for keys in accepted.values()):
            known = {own for keys in accepted.values() for own in keys}
            raise unknown_name(f"setting of {' or '.join(accepted)}:", key, known)
    each = {}
    for name, keys in accepted.items():
        chosen = {key: value for key, value in values.items() if key in keys}
        if name in configs:
            each[name] = _with_members(name, configs[name], chosen, preset)
        else:
            each[name] = configure(name, chosen, preset=preset)
    return each


def _settings(system: "type[System]") -> dict[str, Setting]:
    """Return the settings of a system by name, those of the system that it scores included."""
    inherited = settings_of(get(system.training_of).Config) if system.training_of else {}
    return inherited | settings_of(system.Config)


def _accepted(system: "type[System]", members: Sequence[str]) -> set[str]:
    """Return the names of a system's settings, and of its members' with and without the member's name."""
    names = set(_settings(system))
    for member in members:
        of_member = _settings(get(Variant.from_text(member).system))
        names |= {*of_member, *(f"{member}.{name}" for name in of_member)}
    return names


def _is_ensemble(system: "type[System]") -> bool:
    from asdbench.system import System

    return inspect.getattr_static(system, "members") is not inspect.getattr_static(System, "members")


def _configure_ensemble(name: str, values: Mapping[str, object], preset: str | None) -> Configured:
    return _with_members(name, _ensemble_config(name, values, preset), values, preset)


def _ensemble_config(name: str, values: Mapping[str, object], preset: str | None) -> Any:
    """Return the config of an ensemble, from its preset and those of ``values`` that are its own."""
    system = get(name)
    own = settings_of(system.Config)
    requested = preset_settings(name, preset)
    requested |= {key: value for key, value in values.items() if key in own}
    config = make_config(system.Config, requested, owner=name)
    for setting in own.values():
        if setting.affects != "fusion":
            raise InputError(
                f"ensemble {name!r} trains and scores nothing of its own, so its setting {setting.name!r} "
                f"must be declared with affects='fusion'"
            )
    return config


def _member_names(name: str, config: Any) -> tuple[str, ...]:
    """Return the names of an ensemble's members, checked."""
    members: tuple[str, ...] = get(name).members(config)
    if not members:
        raise InputError(f"{name} has no members; name one or more systems")
    for member in members:
        if members.count(member) > 1:
            raise InputError(f"{name}: member {member!r} is named twice")
        if "," in member:
            raise InputError(f"{name}: member {member!r} has a comma, which separates members; leave it out")
        if _is_ensemble(get(Variant.from_text(member).system)):
            raise InputError(f"{name}: member {member!r} is an ensemble itself; name its members instead")
    return members


def _with_members(name: str, config: Any, values: Mapping[str, object], preset: str | None) -> Configured:
    """Return an ensemble with its members, configured with those of ``values`` that are not its own."""
    system = get(name)
    own, members = settings_of(system.Config), _member_names(name, config)
    variants = {member: Variant.from_text(member) for member in members}
    of_members: dict[str, dict[str, object]] = {member: {} for member in members}
    # the value for one member takes precedence over the one for all members
    for key, value in sorted(values.items(), key=lambda item: "." in item[0]):
        if key in own:
            continue
        prefix, _, setting = key.rpartition(".")
        owners = [
            member
            for member, variant in variants.items()
            if prefix in ("", member) and setting in _settings(get(variant.system))
        ]
        if not owners:
            raise unknown_name("setting", key, _accepted(system, members), of=name)
        free = [member for member in owners if setting not in variants[member].settings]
        if not free:
            raise InputError(
                f"{name}: {key}={value} changes nothing, because member {owners[0]!r} names its own "
                f"{setting}; change it there"
            )
        for owner in free:
            of_members[owner][setting] = value
    configured = tuple(_member(member, of_members[member], preset) for member in members)
    _check_distinct(name, configured, preset)
    return Configured(name, system, config, None, configured)


def _check_distinct(name: str, members: Sequence[Configured], preset: str | None) -> None:
    """Raise if two members are named for the same system, settings and seed, however they are written.

    Settings over all members may make two of them equal, as one trial of a search does.
    """
    seen: dict[tuple[object, ...], str] = {}
    for member in members:
        text = member.member_name
        first = seen.setdefault(_identity(member), text)
        if first != text and _identity(_member(first, {}, preset)) == _identity(_member(text, {}, preset)):
            raise InputError(
                f"{name}: members {first!r} and {text!r} are the same system with the same settings and "
                f"seed; leave one out"
            )


def _identity(member: Configured) -> tuple[object, ...]:
    return member.name, tuple(member.own_values().items()), member.seed_offset


def _member(text: str, values: Mapping[str, object], preset: str | None) -> Configured:
    """Return a member of an ensemble: its variant's presets over the run's, its settings over all else."""
    variant = Variant.from_text(text)
    known = presets_of(variant.system)
    for one in variant.presets:
        if one not in known:
            raise unknown_name("preset", one, known, of=variant.system)
    presets = ",".join([*split_presets(preset), *variant.presets])
    configured = configure(variant.system, {**values, **variant.settings}, preset=presets or None)
    return configured if text == variant.system else dataclasses.replace(configured, variant=variant)


def _provenance_flaw(system: "type[System]") -> str | None:
    """Return which ``chosen_on`` is no tuple of names, as a single name without a comma is none."""
    owners = {f"{system.__name__}.chosen_on": system.chosen_on}
    for preset, given in system.presets.items():
        if isinstance(given, Preset):
            owners[f"chosen_on of {system.__name__}.presets[{preset!r}]"] = given.chosen_on
    for owner, names in owners.items():
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            return f"{owner} is {names!r}; it must be a tuple of names of data sets, such as ('factory',)"
    return None


@cache
def source_hash(name: str) -> str:
    """Return a hash of the code that a system's results depend on.

    It covers the system's module, the modules of its own package and beside that package that this imports,
    and the layers, back ends, features and contract of asdbench that any of these import, as
    `asdbench.source_code` reads them: a comment, a reworded docstring or message does not change it.
    """
    first = get(name).__module__
    return source_code.hash_of(first, (*_ROOMS_IN_SOURCE_HASH, *_own_rooms(first)))


def _own_rooms(module: str) -> tuple[str, ...]:
    """Return a system's top-level package and, unless it is installed among others', those beside it."""
    top = module.partition(".")[0]
    spec = _top_level_spec(top)
    places = [] if spec is None else list(spec.submodule_search_locations or [str(spec.origin)])
    folder = Path(places[0]).parent if places else None
    if folder is None or folder.name in ("site-packages", "dist-packages"):
        return (top,)
    files = [*folder.glob("*.py"), *(path.parent for path in folder.glob("*/__init__.py"))]
    return (top, *sorted({path.stem for path in files} - {top, "asdbench"}))


@cache
def platform_hash(*modules: str) -> str:
    """Return a hash of the code of modules of asdbench, and of what they import, as `source_hash` does."""
    return ":".join(source_code.hash_of(module, _ROOMS_IN_SOURCE_HASH) for module in modules)


def _sources() -> dict[str, list[SystemSource]]:
    sources: dict[str, list[SystemSource]] = {}
    for folder in _system_folders():
        for file in sorted(folder.glob("*.py")):
            if not file.name.startswith("_"):
                module = f"systems.{file.stem}"
                sources.setdefault(file.stem.replace("_", "-"), []).append(
                    SystemSource(module, None, f"systems/{file.name}")
                )
    for entry in _entry_points():
        package = entry.dist.name if entry.dist else "an unknown package"
        origin = SystemSource(entry.module, entry.attr, f"{entry.value} of package {package}")
        sources.setdefault(entry.name, []).append(origin)
    return sources


def _entry_points() -> Iterable[importlib.metadata.EntryPoint]:
    return importlib.metadata.entry_points(group=ENTRY_POINTS)


def _top_level_spec(module: str) -> ModuleSpec | None:
    """Return where a top-level module is; ``None`` if it does not exist."""
    try:
        return importlib.util.find_spec(module)
    except ValueError:  # it was imported and has no file
        return None


def _system_folders() -> list[Path]:
    spec = _top_level_spec("systems")
    if spec is None or spec.submodule_search_locations is None:
        return []
    return [Path(folder) for folder in spec.submodule_search_locations]
