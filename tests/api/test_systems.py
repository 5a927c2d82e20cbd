"""The systems and their settings."""

from pathlib import Path

import pytest

import asdbench
from asdbench import registry
from asdbench.registry import SystemSource


def test_systems_have_a_source_and_a_description() -> None:
    systems = asdbench.systems()
    assert systems.names == registry.names()
    assert systems.broken == {}
    described = {row["name"]: row for row in systems.rows}["baseline-mse"]
    assert described["source"] == "systems/baseline_mse.py"
    assert "autoencoder" in described["description"].lower()
    assert "baseline-mse" in systems.to_markdown()


def test_a_broken_system_is_named_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_plugin.py").write_text("raise RuntimeError('no license')")
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = registry._sources()
    place = SystemSource("their_plugin", None, "their_plugin.py")
    monkeypatch.setattr(registry, "_sources", lambda: {**sources, "theirs": [place]})
    systems = asdbench.systems()
    assert "theirs" not in systems.names
    assert "no license" in systems.broken["theirs"]
    assert "broken: system 'theirs'" in systems.to_markdown()


def test_the_settings_of_a_system_include_those_of_the_training_that_it_reuses() -> None:
    settings = asdbench.settings("baseline-maha")
    by_name = {row["setting"]: row for row in settings.rows}
    assert by_name["maha_mode"]["change_requires"] == "refusion"
    assert by_name["bottleneck"]["change_requires"] == "retraining"
    assert by_name["epochs"]["default"] == registry.configure("baseline-maha").values()["epochs"]
    assert settings.presets["demo"] == registry.configure("baseline-maha", preset="demo").changed()
    assert settings.documentation
    assert settings.documentation.split()[0] in str(settings)
    assert "preset demo: " in str(settings)
    with pytest.raises(asdbench.InputError, match="no system 'nothing'"):
        asdbench.settings("nothing")
