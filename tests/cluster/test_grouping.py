"""When a training moves to a group: figures of several situations, and the sentences for the user."""

import pytest

from asdbench.cluster.grouping import decide, group_size


@pytest.mark.parametrize(
    ("remaining_s", "idle", "size"),
    [
        (720.0, 3, 4),  # 12 min become 40 s + 212 s
        (3600.0, 7, 8),
        (3600.0, 1, 2),
        (90.0, 3, 1),  # 40 s to start would leave 23 s
        (60.0, 100, 1),  # no number of GPUs saves a minute
        (3600.0, 0, 1),
        (3600.0, -1, 1),
        (0.0, 3, 1),
    ],
)
def test_a_training_moves_to_all_idle_gpus_if_that_pays(remaining_s: float, idle: int, size: int) -> None:
    assert group_size(remaining_s, idle, startup_s=40.0, efficiency=0.8) == size


@pytest.mark.parametrize(("startup_s", "size"), [(179.0, 4), (181.0, 1)])
def test_a_move_has_to_save_a_minute(startup_s: float, size: int) -> None:
    """340 s on one process take 100 s on four, at an efficiency of 0.8."""
    assert group_size(340.0, 3, startup_s=startup_s, efficiency=0.8) == size


@pytest.mark.parametrize(("efficiency", "size"), [(0.05, 1), (0.5, 2)])
def test_a_group_that_hardly_computes_faster_does_not_pay(efficiency: float, size: int) -> None:
    """An hour on two processes: 57 min at an efficiency of 0.05, which is less than a tenth."""
    assert group_size(3600.0, 1, startup_s=30.0, efficiency=efficiency) == size


def test_the_time_saved_counts_the_start() -> None:
    decision = decide(1000.0, 1, startup_s=50.0, efficiency=1.0)
    assert decision.saved_s == pytest.approx(1000 - 500 - 50)
    assert decide(10.0, 1).saved_s == 0.0


def test_the_decision_is_a_sentence() -> None:
    assert decide(720.0, 3, startup_s=30.0, efficiency=0.8).describe("fan multitask-mel seed 0") == (
        "fan multitask-mel seed 0 has about 12 min to go and 3 GPUs are idle: "
        "it continues on 4 GPUs from its checkpoint, about 8 min sooner"
    )
    assert decide(90.0, 1).describe("fan baseline-mse seed 0") == (
        "fan baseline-mse seed 0 has about 2 min to go and 1 GPU is idle: it stays on 1 GPU, since a group "
        "would not finish much sooner"
    )
    assert "about 3.0 h to go" in decide(10_800.0, 1).describe("fan")
    assert "about 1 min to go" in decide(20.0, 1).describe("fan")
