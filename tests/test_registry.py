import dataclasses
import importlib
import importlib.metadata
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asdbench import registry, source_code
from asdbench.errors import InputError
from asdbench.presets import Preset

HEAD = """
from dataclasses import dataclass
from asdbench.config import tunable
from asdbench.system import System

@dataclass(frozen=True)
class Config:
    {settings}

"""
SYSTEM = """
class {name}(System):
    Config = Config
    {body}

    @classmethod
    def input_spec(cls, config): ...

    @classmethod
    def batch_plan(cls, config): ...

    def stages(self, steps_per_epoch): ...

    def components(self, batch):
        return {{}}
"""


def code(*names: str, settings: str = "width: int = tunable(3)", body: str = "pass") -> str:
    return HEAD.format(settings=settings) + "".join(SYSTEM.format(name=name, body=body) for name in names)


@dataclass(frozen=True)
class Package:
    """Stands for an installed distribution."""

    name: str


@dataclass(frozen=True)
class Entry:
    """Stands for an entry point."""

    name: str
    value: str
    dist: Package | None = Package("their-package")

    @property
    def module(self) -> str:
        return self.value.partition(":")[0]

    @property
    def attr(self) -> str | None:
        return self.value.partition(":")[2] or None


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Give a function that puts modules on the path and entry points into the group."""
    registry.get.cache_clear()
    registry.source_hash.cache_clear()
    monkeypatch.syspath_prepend(str(tmp_path))
    entries: list[Entry] = []
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: entries if group == registry.ENTRY_POINTS else []
    )
    written: set[str] = set()

    def function(module: str, text: str, **names: str) -> None:
        path = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()
        written.add(module.partition(".")[0])
        entries.extend(Entry(name.replace("_", "-"), value) for name, value in names.items())

    yield function
    for name in [n for n in sys.modules if n.partition(".")[0] in written]:
        del sys.modules[name]
    registry.get.cache_clear()
    registry.source_hash.cache_clear()


def test_files_of_systems_are_found_by_their_names() -> None:
    assert {"baseline-mse", "baseline-maha"} <= set(registry.names())
    assert registry.source("baseline-mse").place == "systems/baseline_mse.py"
    assert registry.get("baseline-mse").__name__ == "BaselineMse"


def test_listing_imports_nothing(install: Install) -> None:
    install("their_broken", "raise RuntimeError('listed, not imported')", theirs="their_broken:Theirs")
    assert "theirs" in registry.names()
    assert "their_broken" not in sys.modules


@pytest.mark.parametrize("function", [registry.source, registry.get, registry.configure])
def test_an_unknown_name_is_refused_with_the_nearest(function: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match="no system 'baseline-mze'; did you mean 'baseline-mse'"):
        function("baseline-mze")


def test_an_entry_point_adds_a_system(install: Install) -> None:
    install("their_module", code("Theirs", "Another"), theirs="their_module:Theirs")
    assert registry.get("theirs").__name__ == "Theirs"
    assert registry.configure("theirs", {"width": "4"}).values() == {"width": 4}


def test_the_code_of_plugins_is_their_top_level_modules(install: Install, tmp_path: Path) -> None:
    install("their_package.inner.deep", code("Theirs"), theirs="their_package.inner.deep:Theirs")
    install("their_module", code("Single"), single="their_module", gone="not_installed:Gone")
    systems, *plugins = registry.plugin_modules()
    assert (systems / "baseline_mse.py").is_file()
    assert plugins == [tmp_path / "their_module.py", tmp_path / "their_package"]


def test_the_metadata_of_plugins_is_their_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_points = "[asdbench.systems]\ntheirs = their_module:Theirs\n"
    metadata = tmp_path / "their_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.plugin_metadata()["their_package-1.0"] == entry_points


def test_a_module_without_a_class_name_gives_its_only_system(install: Install) -> None:
    install("their_module", code("Theirs"), theirs="their_module")
    assert registry.get("theirs").__name__ == "Theirs"


def test_a_name_defined_twice_names_both_places(install: Install) -> None:
    install("their_module", code("Theirs"), baseline_mse="their_module:Theirs")
    with pytest.raises(
        InputError, match=r"systems/baseline_mse\.py and their_module:Theirs of package their-package"
    ):
        registry.get("baseline-mse")
    assert registry.names().count("baseline-mse") == 1


@pytest.mark.parametrize(
    ("text", "value", "message"),
    [
        (code("One", "Two"), "their_module", "must define exactly one subclass of System; it defines 2"),
        ("", "their_module", "it defines 0"),
        ("import no_such_module_anywhere", "their_module:Theirs", "cannot be imported: ModuleNotFoundError"),
        ("\n1 / 0", "their_module:Theirs", r"cannot be imported: ZeroDivisionError\(.*\), in line 2$"),
        (code("One"), "their_module:Theirs", "is not a subclass"),
        ("Theirs = int", "their_module:Theirs", "is not a subclass"),
    ],
)
def test_a_broken_module_is_named(install: Install, text: str, value: str, message: str) -> None:
    install("their_module", text, theirs=value)
    with pytest.raises(InputError, match=message) as caught:
        registry.get("theirs")
    assert "their_module" in str(caught.value)
    assert registry.get("baseline-mse")  # the others still work


def without(member: str) -> str:
    return code("Theirs").replace(f"def {member}(", "def something_else(")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (code("Theirs").replace("    Config = Config\n", ""), r"Theirs\.Config must be a dataclass declared"),
        (code("Theirs").replace("Config = Config", "Config = dict"), r"Theirs\.Config must be a dataclass"),
        (code("Theirs").replace("(frozen=True)", ""), r"declared with @dataclass\(frozen=True\)"),
        (code("Theirs", settings="width: int = 3"), r"Config\.width must be declared with tunable"),
        (code("Theirs", settings="width: 'Int' = tunable(3)"), r"'Int' is not defined \(in Theirs\.Config\)"),
        (without("input_spec"), "Theirs must define input_spec,"),
        (without("batch_plan"), "Theirs must define batch_plan,"),
        (without("stages"), "Theirs must define stages,"),
        (without("components"), "Theirs must define components,"),
        (
            code("Theirs") + "\n    scope = 'dataset'\n",
            r"Theirs\.scope is 'dataset'; it must be 'machine' or 'data set'",
        ),
        (
            code("Theirs") + "\n    def window_pooling(self, config):\n        return 'max'\n",
            r"Theirs\.window_pooling must be a @classmethod",
        ),
        (code("Theirs").replace("@classmethod", "", 1), r"Theirs\.input_spec must be a @classmethod"),
        ("raise SystemExit(3)", r"cannot be imported: SystemExit\(3\)"),
    ],
)
@pytest.mark.parametrize("value", ["their_module", "their_module:Theirs"])
def test_a_system_that_does_not_keep_the_contract_is_refused(
    install: Install, text: str, value: str, message: str
) -> None:
    install("their_module", text, theirs=value)
    with pytest.raises(InputError, match=rf"system 'theirs' \({value} of package .* {message}"):
        registry.get("theirs")
    assert list(registry.broken()) == ["theirs"]


def test_a_scorer_needs_none_of_what_trains(install: Install) -> None:
    text = code(
        "Theirs",
        settings='width: int = tunable(3, affects="scoring")',
        body='training_of = "baseline-mse"',
    )
    for member in ("input_spec", "batch_plan", "stages"):
        text = text.replace(f"def {member}(", f"def other_{member}(")
    install("their_module", text, theirs="their_module:Theirs")
    assert registry.configure("theirs").trainer.name == "baseline-mse"
    assert registry.broken() == {}


def test_settings_of_the_trained_system_are_settings_too() -> None:
    configured = registry.configure("baseline-maha", {"epochs": "3", "maha_mode": "per_frame"})
    assert configured.trained is not None
    assert configured.trained.config.epochs == 3
    assert configured.trainer.name == "baseline-mse"
    assert configured.config.maha_mode == "per_frame"
    assert configured.values()["epochs"] == 3
    assert configured.values("fusion") == {"maha_mode": "per_frame"}
    assert configured.changed() == {"epochs": 3, "maha_mode": "per_frame"}
    with pytest.raises(InputError, match="no setting 'epoch' of baseline-maha; did you mean 'epochs'"):
        registry.configure("baseline-maha", {"epoch": 3})


def test_a_system_that_trains_is_its_own_trainer() -> None:
    configured = registry.configure("baseline-mse")
    assert configured.trainer is configured
    assert configured.changed() == {}


def test_a_preset_lies_between_defaults_and_wishes() -> None:
    assert registry.configure("baseline-mse", preset="demo").changed() == {"epochs": 60}
    assert registry.configure("baseline-maha", preset="demo").changed() == {"epochs": 60}
    assert registry.configure("baseline-mse", {"epochs": 4, "hidden": 8}, preset="demo").changed() == {
        "epochs": 4, "hidden": 8,
    }  # fmt: skip


# Ensembles

PAIR = {"members": ("baseline-mse", "multitask-mel")}


def test_an_ensemble_takes_its_members_settings() -> None:
    configured = registry.configure("ensemble", PAIR | {"n_mels": "64", "multitask-mel.steps": "7"})
    mse, mel = configured.members
    assert (mse.config.n_mels, mel.config.n_mels, mel.config.steps) == (64, 64, 7)
    assert configured.values()["multitask-mel.steps"] == 7
    assert configured.values("training") == {
        f"{of.name}.{name}": value for of in (mse, mel) for name, value in of.values("training").items()
    }
    assert configured.changed() == {"members": PAIR["members"], "n_mels": 64, "steps": 7}
    assert configured.accepts("steps")
    assert configured.accepts("baseline-mse.epochs")
    assert not configured.accepts("baseline-mse.steps")


def test_a_members_own_setting_goes_before_one_for_all() -> None:
    wanted = {"baseline-mse.n_mels": 32, "n_mels": 64}
    configured = registry.configure("ensemble", PAIR | wanted)
    assert [member.config.n_mels for member in configured.members] == [32, 64]
    assert configured.changed() == {
        "members": PAIR["members"], "baseline-mse.n_mels": 32, "multitask-mel.n_mels": 64,
    }  # fmt: skip
    assert registry.configure("ensemble", configured.changed()) == configured


def test_a_preset_reaches_the_members() -> None:
    configured = registry.configure("ensemble", dict(PAIR), preset="demo")
    assert (
        configured.members[0].config.epochs == registry.configure("baseline-mse", preset="demo").config.epochs
    )
    assert configured.members[1] == registry.configure("multitask-mel", preset="demo")


# Variants: members with presets, settings or a seed of their own

DEEP = "multitask-mel@demo:embedding=16:dropout=0.2"
VARIANTS = {"members": ("multitask-mel", DEEP, "multitask-mel@seed=3")}


def test_variants_of_one_system_are_members_of_their_own() -> None:
    configured = registry.configure("ensemble", VARIANTS | {"steps": 7, f"{DEEP}.blocks": 2})
    plain, deep, seeded = configured.members
    assert [member.member_name for member in configured.members] == list(VARIANTS["members"])
    assert [member.name for member in configured.members] == ["multitask-mel"] * 3
    assert [member.seed_offset for member in configured.members] == [0, 0, 3]
    assert plain == registry.configure("multitask-mel", {"steps": 7})
    settings = {"embedding": 16, "dropout": 0.2, "steps": 7, "blocks": 2}
    assert deep.config == registry.configure("multitask-mel", settings, preset="demo").config
    assert seeded.config == plain.config
    assert configured.values()[f"{DEEP}.embedding"] == 16
    assert configured.accepts(f"{DEEP}.steps")


@pytest.mark.parametrize("preset", [None, "fast", "demo", "fast,demo"])
@pytest.mark.parametrize("values", [{}, {"steps": 7}, {"dropout": 0.3}, {f"{DEEP}.steps": 9}])
def test_an_ensemble_of_variants_is_configured_again_from_what_it_changes(
    preset: str | None, values: dict[str, Any]
) -> None:
    configured = registry.configure("ensemble", VARIANTS | values, preset=preset)
    assert registry.configure("ensemble", configured.changed()) == configured
    assert configured.members[1].config.dropout == 0.2


def test_a_variants_preset_goes_before_the_runs_and_its_settings_before_all() -> None:
    members = ("multitask-mel@demo", "multitask-mel@steps=5")
    demo, five = registry.configure("ensemble", {"members": members}, preset="fast").members
    fast = registry.configure("multitask-mel", preset="fast").config
    assert demo.config == registry.configure("multitask-mel", preset="fast,demo").config
    assert demo.config.steps == registry.configure("multitask-mel", preset="demo").config.steps
    assert five.config == dataclasses.replace(fast, steps=5)


def test_a_member_that_is_a_variant_is_a_job_of_its_system() -> None:
    (member,) = registry.configure("ensemble", {"members": "baseline-maha@maha_mode=per_frame"}).members
    assert member.changed() == {"maha_mode": "per_frame"}
    assert registry.configure(member.name, member.changed()).config == member.config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"members": "multitask-mel@fats"}, "no preset 'fats' of multitask-mel; did you mean 'fast'"),
        ({"members": "multitask-mel@stepps=3"}, "no setting 'stepps' of multitask-mel; did you mean 'steps'"),
        ({"members": "multitask-mel@steps=x"}, "multitask-mel: steps='x' is not of type int"),
        ({"members": f"{DEEP},{DEEP}"}, "is named twice"),
        (
            {"members": "baseline-mse@seed=0,baseline-mse"},
            "'baseline-mse@seed=0' and 'baseline-mse' are the same",
        ),
        ({"members": "baseline-mse@seed=01,baseline-mse@seed=1"}, "seed=01' and 'baseline-mse@seed=1'"),
        ({"members": "baseline-mse@demo:demo,baseline-mse@demo"}, "demo:demo' and 'baseline-mse@demo'"),
        ({"members": "baseline-mse,baseline-mse@n_mels=128"}, "'baseline-mse' and 'baseline-mse@n_mels=128'"),
        ({"members": "baseline-mse,baseline-mse@n_mels=128", "epochs": 3}, "are the same system"),
        ({"members": "ensemble@scale=log"}, "is an ensemble itself"),
        ({"members": ("baseline-mse@epochs=3,4",)}, "has a comma, which separates members"),
        (
            {"members": "baseline-mse@epochs=3", "epochs": 4},
            "epochs=4 changes nothing, because member 'baseline-mse@epochs=3' names its own epochs",
        ),
    ],
)
def test_what_a_variant_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.configure("ensemble", values)


def test_a_trial_of_a_search_may_make_two_members_equal() -> None:
    values = {"members": "baseline-mse,baseline-mse@n_mels=64", "n_mels": 64}
    assert [member.config.n_mels for member in registry.configure("ensemble", values).members] == [64, 64]


# Presets

MANY = {
    "fast": {"epochs": 20},
    "narrow": Preset({"hidden": 16, "bottleneck": 4}, chosen_on=("shop", "demo")),
}


@pytest.fixture
def presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.get("baseline-mse"), "presets", MANY)
    scored = {"narrow": Preset({"maha_mode": "per_frame"}, chosen_on=("factory",))}
    monkeypatch.setattr(registry.get("baseline-maha"), "presets", scored)


@pytest.mark.usefixtures("presets")
def test_presets_have_any_name_and_go_together() -> None:
    assert registry.configure("baseline-mse", preset="fast,narrow").changed() == {
        "epochs": 20, "hidden": 16, "bottleneck": 4,
    }  # fmt: skip
    assert registry.presets_of("baseline-maha")["narrow"] == Preset(
        {"hidden": 16, "bottleneck": 4, "maha_mode": "per_frame"}, ("shop", "demo", "factory")
    )
    assert "narrow" in registry.all_presets()


@pytest.mark.usefixtures("presets")
def test_a_preset_that_none_of_the_systems_has_is_refused() -> None:
    registry.configure_each(["baseline-mse", "multitask-mel"], {}, preset="narrow")
    registry.configure_each(["ensemble"], {"members": "baseline-mse@seed=1"}, preset="narrow,demo")
    with pytest.raises(InputError, match="no preset 'narow'; did you mean 'narrow'"):
        registry.configure_each(["baseline-mse"], {}, preset="fast,narow")
    with pytest.raises(InputError, match="no preset 'narrow'; there are: altered, demo"):
        registry.configure_each(["multitask-mel"], {}, preset="narrow")


@pytest.mark.usefixtures("presets")
def test_who_has_settings_that_labels_chose() -> None:
    def chosen_on(
        system: str, settings: dict[str, object] | None = None, preset: str | None = None
    ) -> set[str]:
        return registry.configure(system, settings, preset=preset).chosen_on()

    assert chosen_on("baseline-mse") == chosen_on("baseline-mse", {"hidden": 16}) == set()
    assert chosen_on("baseline-mse", {"hidden": 16, "bottleneck": "4", "epochs": 3}) == {"shop", "demo"}
    assert chosen_on("baseline-mse", preset="fast,narrow") == {"shop", "demo"}
    assert chosen_on("ensemble", {"members": "multitask-mel,baseline-mse@narrow"}) == {"shop", "demo"}
    assert chosen_on("ensemble", {"members": "multitask-mel,baseline-mse"}, "narrow") == {"shop", "demo"}
    assert chosen_on("spectra-gauss") == chosen_on("spectra-gauss", {"ridge": 0.2}) == {"shop", "demo"}
    assert chosen_on("ensemble", {"members": "spectra-gauss,baseline-mse"}) == {"shop", "demo"}


@pytest.mark.parametrize("body", ['chosen_on = ("shop")', 'presets = {"mine": Preset({}, ("shop"))}'])
def test_one_name_without_a_comma_is_no_provenance(install: Install, body: str) -> None:
    text = "from asdbench.presets import Preset\n" + code("Theirs", body=body)
    install("their_module", text, theirs="their_module:Theirs")
    with pytest.raises(InputError, match=r"chosen_on.* is 'shop'; it must be a tuple of names of data sets"):
        registry.configure("theirs")


@pytest.mark.parametrize("preset", ['"Fast": {"width": 4}', '"a,b": {"width": 4}', '"fast": 4'])
def test_a_preset_that_cannot_be_named_or_read_is_refused(install: Install, preset: str) -> None:
    install("their_module", code("Theirs", body=f"presets = {{{preset}}}"), theirs="their_module:Theirs")
    with pytest.raises(InputError, match="a preset has a name of lowercase letters, digits and hyphens"):
        registry.get("theirs")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"members": ""}, "ensemble has no members; name one or more systems"),
        ({"members": "baseline-mse,baseline-mse"}, "ensemble: member 'baseline-mse' is named twice"),
        ({"members": "baseline-mse,ensemble"}, "ensemble: member 'ensemble' is an ensemble itself"),
        ({"members": "baseline-mze"}, "no system 'baseline-mze'; did you mean 'baseline-mse'"),
        ({"weights": "1,2"}, "weights=1.0,2.0 are 2 weights for 3 members"),
        ({"weights": "0,0,0"}, "all weights are 0"),
        ({"weights": "1,-1,1"}, "weights=-1.0 is below the minimum of 0"),
        ({"weights": "1,x,1"}, "weights='1,x,1' is not of type float,float,... or none"),
        (PAIR | {"epoch": 3}, "no setting 'epoch' of ensemble; did you mean 'epochs'"),
        (PAIR | {"multitask-mel.epochs": 3}, "no setting 'multitask-mel.epochs' of ensemble"),
        (PAIR | {"epochs": 0}, "baseline-mse: epochs=0 is below the minimum"),
    ],
)
def test_what_an_ensemble_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        registry.configure("ensemble", values)


def test_settings_go_to_the_systems_that_have_them() -> None:
    wanted = {"epochs": "3", "steps": 9, **PAIR}
    each = registry.configure_each(["ensemble", "baseline-mse", "multitask-mel", "ensemble"], wanted)
    assert list(each) == ["ensemble", "baseline-mse", "multitask-mel"]
    assert each["baseline-mse"].changed() == {"epochs": 3}
    assert each["multitask-mel"].changed() == {"steps": 9}
    assert each["ensemble"].changed() == {"members": PAIR["members"], "epochs": 3, "steps": 9}
    assert registry.configure_each(["baseline-mse"], {}, preset="demo")["baseline-mse"].config.epochs == 60
    with pytest.raises(InputError, match="no setting of baseline-mse: 'step'"):
        registry.configure_each(["baseline-mse"], {"step": 3})


def test_who_takes_pseudo_anomalies() -> None:
    assert not registry.configure("baseline-maha").takes_pseudo_anomalies()
    assert registry.configure("multitask-mel").takes_pseudo_anomalies()
    assert registry.configure("ensemble").takes_pseudo_anomalies()
    assert not registry.configure("ensemble", {"members": "baseline-mse"}).takes_pseudo_anomalies()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (
            "def window_pooling(cls, config): return 'median'",
            r"Theirs\.window_pooling returns 'median'; return one of 'mean', 'max', 'top-k', 'relative-dev",
        ),
        ("def window_pooling(cls, config): return config.pool", "one raises AttributeError"),
        (
            "def pretrained(cls, config): return ('ced-tiny',)",
            r"must define load_pretrained\(self, weights\)",
        ),
    ],
)
def test_declarations_that_cannot_work_are_named_before_anything_runs(
    install: Install, method: str, message: str
) -> None:
    install("their_module", code("Theirs") + f"\n    @classmethod\n    {method}\n", theirs="their_module")
    with pytest.raises(InputError, match=message):
        registry.configure("theirs")
    assert list(registry.broken()) == ["theirs"]


ENSEMBLE = """
class Theirs(System):
    Config = Config

    @classmethod
    def members(cls, config):
        return ("baseline-mse",)
"""


def test_an_ensemble_must_say_how_it_combines(install: Install) -> None:
    install(
        "their_module",
        HEAD.format(settings="width: int = tunable(3)") + ENSEMBLE,
        theirs="their_module:Theirs",
    )
    with pytest.raises(InputError, match="Theirs must define combine"):
        registry.get("theirs")


def test_an_ensembles_settings_only_affect_fusion(install: Install) -> None:
    combine = "\n    @classmethod\n    def combine(cls, config, scores): ...\n"
    text = HEAD.format(settings="width: int = tunable(3)") + ENSEMBLE + combine
    install("their_module", text, theirs="their_module:Theirs")
    with pytest.raises(InputError, match="its setting 'width' must be declared with affects='fusion'"):
        registry.configure("theirs")


def test_a_scorer_may_not_redefine_a_setting(install: Install) -> None:
    text = code(
        "Theirs", settings='epochs: int = tunable(3, affects="scoring")', body='training_of = "baseline-mse"'
    )
    install("their_module", text, theirs="their_module:Theirs")
    with pytest.raises(InputError, match="redefines settings of 'baseline-mse': epochs"):
        registry.configure("theirs")


def test_a_scorer_may_not_have_training_settings(install: Install) -> None:
    """They would be in no key of the job store: the training's holds the trained system's settings only."""
    install("their_module", code("Theirs", body='training_of = "baseline-mse"'), theirs="their_module:Theirs")
    with pytest.raises(InputError, match=r"'width' must be declared with affects"):
        registry.configure("theirs")


def hash_of(install: Install, text: str) -> str:
    sys.modules.pop("their_module", None)
    install("their_module", text, theirs="their_module:Theirs")
    registry.get.cache_clear()
    registry.source_hash.cache_clear()
    found = registry.source_hash("theirs")
    del importlib.metadata.entry_points(group=registry.ENTRY_POINTS)[:]  # type: ignore[attr-defined]
    return found


def test_the_source_hash_follows_the_code_alone(install: Install) -> None:
    plain = hash_of(install, code("Theirs"))
    assert hash_of(install, "# a comment\n" + code("Theirs") + "\n\n# another") == plain
    for words in ("These.", "Others."):
        head = "class Theirs(System):\n"
        documented = code("Theirs").replace(head, f'{head}    """{words}"""\n')
        assert words in documented
        assert hash_of(install, f'"""Of the module: {words}"""\n{documented}') == plain
    assert hash_of(install, code("Theirs", settings="width: int = tunable(4)")) != plain
    assert hash_of(install, code("Theirs", body="depth = 2")) != plain


def test_the_source_hash_covers_what_a_system_imports_of_asdbench(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from asdbench.nn.their_layers import WIDTH\n" + code("Theirs")
    hashes = set()
    for layers in ("WIDTH = 1\n", "WIDTH = 2\n", "WIDTH = 2  # a comment\n"):
        module = types.ModuleType("asdbench.nn.their_layers")
        module.WIDTH = 1  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "asdbench.nn.their_layers", module)
        read = source_code._source_text
        with monkeypatch.context() as patch:
            patch.setattr(
                source_code, "_source_text",
                lambda m, layers=layers, read=read: layers if m == "asdbench.nn.their_layers" else read(m),
            )  # fmt: skip
            hashes.add(hash_of(install, text))
    assert len(hashes) == 2


def test_the_source_hash_covers_the_rest_of_a_systems_own_package(install: Install) -> None:
    hashes = set()
    install("their_package.__init__", "")
    for width in (1, 2):
        for name in [n for n in sys.modules if n.startswith("their_package")]:
            del sys.modules[name]
        install("their_package.layers", f"WIDTH = {width}\n")
        hashes.add(hash_of(install, "from their_package.layers import WIDTH\n" + code("Theirs")))
    assert len(hashes) == 2  # a package beside the system's own
    for statement in (
        "from their_package.layers import WIDTH",
        "from . import layers",
        "from .layers import WIDTH",
    ):
        hashes = set()
        for width in (1, 2):
            for name in [n for n in sys.modules if n.startswith("their_package")]:
                del sys.modules[name]
            install("their_package.layers", f"WIDTH = {width}\n")
            install(
                "their_package.system",
                statement + "\n" + code("Theirs"),
                theirs="their_package.system:Theirs",
            )
            registry.get.cache_clear()
            registry.source_hash.cache_clear()
            hashes.add(registry.source_hash("theirs"))
            del importlib.metadata.entry_points(group=registry.ENTRY_POINTS)[:]  # type: ignore[attr-defined]
        assert len(hashes) == 2, statement


def test_a_module_beside_a_system_cannot_import_data_for_it(install: Install) -> None:
    install("their_helper", "from asdbench.data.sets import catalog\n")
    install("theirs", "import their_helper\n" + code("Theirs"), theirs="theirs:Theirs")
    with pytest.raises(InputError, match=r"imports asdbench.data.sets.* in their_helper"):
        registry.get("theirs")


def test_packages_beside_an_installed_system_are_not_read(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"theirs", "their_helper"} <= _rooms_of(install)
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    install("site-packages.theirs_too", code("Theirs"))
    assert registry._own_rooms("theirs_too") == ("theirs_too",)


def _rooms_of(install: Install) -> set[str]:
    install("their_helper", "")
    install("theirs", code("Theirs"))
    return set(registry._own_rooms("theirs"))


def test_the_platform_hash_covers_what_a_module_imports_of_asdbench(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> str:
        registry.platform_hash.cache_clear()
        return registry.platform_hash("asdbench.nn.encoders", "asdbench.features.waveform")

    read = source_code._source_text
    before = found()
    for module in ("asdbench.nn.encoders.beats", "asdbench.features.waveform", "asdbench.nn.adacos"):
        for added in ("\nADDED = 1\n", "\n# a comment\n"):

            def changed(name: str, module: str = module, added: str = added) -> str:
                return read(name) + (added if name == module else "")

            monkeypatch.setattr(source_code, "_source_text", changed)
            assert (found() != before) == ("ADDED" in added and module != "asdbench.nn.adacos"), module
    monkeypatch.undo()
    assert found() == before


def test_the_trained_systems_code_is_not_the_scorers() -> None:
    assert registry.source_hash("baseline-mse") != registry.source_hash("baseline-maha")


@pytest.mark.parametrize(
    "statement",
    [
        "import asdbench.data.sets.truth",
        "from asdbench.data.sets import truth",
        "from asdbench.data.sets.catalog import truth",
        "from asdbench import engine",
        "def late():\n    from asdbench.engine.evaluation import labeled_clips",
        "from asdbench.metrics import auc",
        "from asdbench.driver.study_results import section_metrics_per_seed",
        "import asdbench.driver.fusion_search",
        "from asdbench import System, engine",
        "import asdbench\n\ndef late():\n    return asdbench.data.sets.truth.load_truth()",
        "import asdbench as bench\n\ndef late():\n    return bench.engine.evaluation",
        "import asdbench.nn.pooling\n\ndef late():\n    return asdbench.metrics.auc",
    ],
)
def test_a_system_that_reaches_for_data_or_labels_is_refused(install: Install, statement: str) -> None:
    install("their_module", statement + "\n" + code("Theirs"), theirs="their_module:Theirs")
    said = r"'theirs' \(their_module:Theirs of .*\) imports asdbench\.\w+.* in their_module; a system sees"
    with pytest.raises(InputError, match=said):
        registry.get("theirs")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from asdbench.config import tunable\nfrom asdbench.system import System",
         "from asdbench import System, tunable"),
        ("from asdbench.config import tunable\nfrom asdbench.system import System", "from asdbench import *"),
        ("from asdbench.system import System", "import asdbench\nSystem = asdbench.System"),
        ("from asdbench.system import System", "import asdbench as bench\nSystem = bench.System"),
    ],
)  # fmt: skip
def test_the_front_door_is_open_and_part_of_the_source_hash(
    install: Install, monkeypatch: pytest.MonkeyPatch, old: str, new: str
) -> None:
    text = code("Theirs").replace(old, new)
    assert new in text
    plain = hash_of(install, text)
    read = source_code._source_text
    monkeypatch.setattr(
        source_code,
        "_source_text",
        lambda module: read(module) + "\nCHANGED = 1" * (module == "asdbench.system"),
    )
    assert hash_of(install, text) != plain


def test_a_generic_system_has_the_settings_that_it_names(install: Install) -> None:
    text = code("Theirs").replace("    Config = Config\n", "").replace("(System)", "(System[Config])")
    install("their_module", text, theirs="their_module:Theirs")
    assert registry.configure("theirs", {"width": 5}).values() == {"width": 5}


def test_nor_may_the_rest_of_its_package(install: Install) -> None:
    install("their_package.__init__", "")
    install("their_package.peek", "from asdbench.data.sets.truth import load_truth\n")
    text = "from .peek import load_truth\n" + code("Theirs")
    install("their_package.system", text, theirs="their_package.system:Theirs")
    with pytest.raises(
        InputError, match=r"imports asdbench\.data\.sets\.truth in their_package\.peek; a system sees"
    ):
        registry.get("theirs")


def test_nor_may_the_init_module_of_its_package(install: Install) -> None:
    install("their_package.__init__", "from asdbench.data.sets.truth import load_truth\n")
    install("their_package.system", code("Theirs"), theirs="their_package.system:Theirs")
    with pytest.raises(InputError, match=r"asdbench\.data\.sets\.truth in their_package; a system sees"):
        registry.get("theirs")


def test_the_source_hash_covers_the_init_module_of_its_package(install: Install) -> None:
    hashes = []
    for width in (1, 2, 2):
        for name in [n for n in sys.modules if n.startswith("their_package")]:
            del sys.modules[name]
        install("their_package.__init__", f"WIDTH = {width}\n")
        install("their_package.system", code("Theirs"), theirs="their_package.system:Theirs")
        registry.get.cache_clear()
        registry.source_hash.cache_clear()
        hashes.append(registry.source_hash("theirs"))
        del importlib.metadata.entry_points(group=registry.ENTRY_POINTS)[:]  # type: ignore[attr-defined]
    assert hashes[0] != hashes[1] == hashes[2]


def test_every_system_of_the_platform_is_free_of_such_imports() -> None:
    assert registry.broken() == {}
