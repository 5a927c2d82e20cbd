"""Which rows of a leaderboard are shown."""

from typing import Any

import pytest

from asdbench import registry
from asdbench.errors import InputError
from asdbench.report.leaderboard_selection import Selection


def row(system: str, tuned: bool = False, **more: Any) -> dict[str, Any]:
    return {"system": system, "settings": {}, "tuned": {"trials": 2} if tuned else None} | more


def test_systems_are_chosen_by_name_and_must_exist() -> None:
    rows = [row("baseline-mse"), row("gone"), row("baseline-maha")]
    assert Selection(["gone", "baseline-mse"]).select(rows) == rows[:2]
    assert Selection(["ensemble"]).select(rows) == []
    with pytest.raises(InputError, match="no system 'baseline-mze'; did you mean 'baseline-mse'"):
        Selection(["baseline-mze"]).select(rows)


def test_a_preset_means_its_settings_exactly_and_what_was_tuned_from_them() -> None:
    demo = registry.configure("baseline-mse", preset="demo").changed()
    rows = [
        row("baseline-mse"),
        row("baseline-mse", settings=demo),
        row("baseline-mse", settings=demo | {"pseudo_anomaly_data": "other"}),
        row("baseline-mse", settings=demo | {"hidden": 8}),
        row("baseline-mse", settings=demo | {"hidden": 8}, tuned=True),
        row("baseline-mse", settings={"hidden": 8}, tuned=True),
        row("theirs", reference={"source": "A paper"}),
    ]
    assert demo
    chosen = Selection(preset="demo").select(rows)
    assert [rows.index(one) for one in chosen] == [1, 2, 4, 6]


def test_an_ensemble_has_a_preset_whatever_its_members_and_weights() -> None:
    own = {"members": ("baseline-mse", "baseline-maha"), "weights": (0.25, 0.75)}
    demo = registry.configure("ensemble", own, preset="demo").changed()
    rows = [row("ensemble", settings=demo, tuned=True), row("ensemble", settings=own, tuned=True)]
    assert Selection(preset="demo").select(rows) == rows[:1]


def test_an_ensemble_has_a_preset_of_its_own_with_any_weights() -> None:
    robust = registry.configure("ensemble", preset="robust").changed()
    rows = [
        row("ensemble"),
        row("ensemble", settings=robust),
        row("ensemble", settings=robust | {"weights": (1.0, 2.0, 3.0)}),
        row("ensemble", settings={"members": ("baseline-mse", "baseline-maha")}),
    ]
    assert Selection(preset="robust").select(rows) == rows[1:3]
    with pytest.raises(InputError, match="no preset 'robst'; did you mean 'robust'"):
        Selection(preset="fast,robst")


def test_the_best_are_chosen_of_each_machine_type_and_published_ones_stay() -> None:
    rows = [
        row("a", machine_type="fan"),
        row("theirs", machine_type="fan", reference={"source": "A paper"}),
        row("b", machine_type="fan"),
        row("b", machine_type="valve"),
    ]
    assert Selection(top=1).select(rows) == [rows[0], rows[1], rows[3]]
    assert Selection().select(rows) == rows


def test_bad_selections_are_refused() -> None:
    with pytest.raises(InputError, match="--top 0 is too small; give at least 1"):
        Selection(top=0)
    with pytest.raises(InputError, match="no preset 'fats'; did you mean 'fast'"):
        Selection(preset="fats")
    assert Selection(("a", "b"), "fast", 3).options() == "--systems a b --preset fast --top 3"
