"""What a system returns wrongly is named, with what to return instead."""

from typing import Any

import numpy as np
import pytest
import torch

from asdbench.engine.system_output import check_finite, check_losses, checked_components
from asdbench.errors import InputError
from asdbench.system import Losses, Mean, System


class Mine(System[Any]):
    pass


SYSTEM: Any = Mine.__new__(Mine)
LOSS = Mean(torch.ones((), requires_grad=True), 2)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2), "returns a tensor of shape (2,) and type torch.float32; return a dict of tensors"),
        (None, "returns None; return a dict of tensors by component name"),
        ({}, "returns an empty dict; return at least one component"),
        ({"use": torch.zeros(2)}, "returns a component named 'use'; choose another name"),
        ({1: torch.zeros(2)}, "returns a component named 1; choose another name"),
        (
            {"a": np.zeros(2)},
            "a value of type numpy.ndarray as 'a' for 2 clips; return a tensor with one value",
        ),
        (
            {"a": 1.0},
            "returns a value of type float as 'a' for 2 clips; return a tensor with one value per clip",
        ),
        ({"a": [0.0, 1.0]}, "returns a value of type list as 'a' for 2 clips"),
        ({"a": torch.zeros(())}, "returns () values of 'a' for 2 clips; return one value per clip"),
        ({"a": torch.zeros(3)}, "returns (3,) values of 'a' for 2 clips; return one value per clip"),
        ({"a": torch.zeros(2, dtype=torch.long)}, "values of 'a' of type torch.int64; return floating-point"),
        ({"a": torch.zeros(2, dtype=torch.cfloat)}, "of type torch.complex64; return floating-point values"),
        ({"a": torch.tensor([0.0, float("nan")])}, "1 values of 'a' for 2 clips that are not finite; return"),
        ({"b": torch.zeros(2), "a": torch.tensor([np.inf, -np.inf])}, "returns 2 values of 'a' for 2 clips"),
    ],
)
def test_wrong_components_are_named(output: object, message: str) -> None:
    with pytest.raises(InputError, match=r"^Mine\.components returns ") as error:
        checked_components(SYSTEM, "components", output, 2)
    assert message in str(error.value)


def test_right_components_are_returned() -> None:
    scores = checked_components(Mine, "combine", {"a": torch.ones(2, requires_grad=True).bfloat16()}, 2)
    assert scores["a"].equal(torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (torch.zeros(()), "returns a tensor of shape () and type torch.float32 for update 'all'; return"),
        (None, "returns None for update 'all'; return Losses("),
        (Losses({}), "returns Losses without parts for update 'all'; return at least one"),
        (Losses({"a": LOSS}, {"b": 2.0}), "weights the loss 'b', which is not a part; the parts are 'a'"),
        (Losses({"a": torch.zeros(())}), "a tensor of shape () and type torch.float32 as 'a'; return"),
        (Losses({"a": LOSS}, monitors={"m": 0.5}), "returns a value of type float as 'm'; return Mean."),
        (Losses({"a": Mean(1.0, 2)}), "returns a value of type float as the sum of 'a'; return"),
        (Losses({"a": Mean(torch.zeros(3), 3)}), "returns a tensor of shape (3,) and type torch.float32 as"),
        (Losses({"a": Mean(LOSS.sum, 2.0)}), "returns a value of type float as the count of 'a'; "),
        (Losses({"a": Mean(LOSS.sum.detach(), 2)}), "returns losses that depend on no parameter for update"),
    ],
)  # fmt: skip
def test_wrong_losses_are_named(losses: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        check_losses(SYSTEM, "all", losses)
    assert str(error.value).startswith("Mine.forward ")
    assert message in str(error.value)


def test_right_losses_pass() -> None:
    check_losses(SYSTEM, "all", Losses({"a": LOSS, "b": Mean(torch.zeros(()), torch.tensor(3))}, {"a": 2.0}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_first_loss_that_is_not_finite_is_named(value: float) -> None:
    check_finite(SYSTEM, "one", {"a": 1.0})
    with pytest.raises(
        InputError, match=f"^Mine.forward returns {value} as 'b' in the first step of stage 'one'"
    ):
        check_finite(SYSTEM, "one", {"a": 1.0, "b": value})
