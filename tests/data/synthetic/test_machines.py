"""The models of machines: finite, reproducible sounds, and defects that change them."""

import dataclasses

import numpy as np
import pytest

from asdbench.data.synthetic.machines import (
    MACHINES,
    SAMPLE_RATE_HZ,
    Scene,
    decibels,
    keyed_rng,
    record,
    rms,
)


def scene(machine_type: str, *, defect: str | None = None, seed: int = 0) -> Scene:
    return Scene(
        seed=seed,
        machine_type=machine_type,
        domain="source",
        attributes=MACHINES[machine_type].source[0],
        defect=defect,
        severity=0.5,
        samples=4 * SAMPLE_RATE_HZ,
        rng=keyed_rng(seed, machine_type, "clip"),
    )


def test_generators_depend_on_the_whole_key() -> None:
    values = {keyed_rng(*key).random() for key in ((0, "a"), (0, "b"), (1, "a"), (0, "a", 1))}
    assert len(values) == 4
    assert keyed_rng(0, "a", 1).random() == keyed_rng(0, "a", 1).random()


def test_levels() -> None:
    assert decibels(20) == 10
    assert rms(np.array([3.0, -3.0])) == pytest.approx(3)


@pytest.mark.parametrize("machine_type", MACHINES)
def test_a_sound_is_finite_audible_and_reproducible(machine_type: str) -> None:
    sound = record(scene(machine_type))
    assert sound.shape == (4 * SAMPLE_RATE_HZ,)
    assert 0.01 < rms(sound) < 0.05
    assert np.abs(sound).max() <= 0.95
    np.testing.assert_array_equal(record(scene(machine_type)), sound)
    assert not np.array_equal(record(scene(machine_type, seed=1)), sound)


@pytest.mark.parametrize(
    ("machine_type", "defect"), [(name, defect) for name, m in MACHINES.items() for defect in m.defects]
)
def test_a_defect_changes_the_sound_and_has_strength_within_its_limits(
    machine_type: str, defect: str
) -> None:
    broken = scene(machine_type, defect=defect)
    weakest, strongest = MACHINES[machine_type].defects[defect]
    assert weakest < broken.strength(defect) < strongest
    assert broken.strength("another") == 0
    assert dataclasses.replace(broken, severity=0.0).strength(defect) == pytest.approx(weakest)
    healthy = MACHINES[machine_type].sound(scene(machine_type))
    assert not np.array_equal(MACHINES[machine_type].sound(broken), healthy)
