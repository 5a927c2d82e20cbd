"""The contract's records, and the settings that a generic system names."""

from dataclasses import dataclass, fields
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asdbench.config import tunable
from asdbench.errors import InputError
from asdbench.system import (
    ClipBatch,
    Mean,
    Pooling,
    Stage,
    System,
    TrainingFacts,
    Update,
    on_scale,
    once_per_batch,
)


@dataclass(frozen=True)
class Config:
    width: int = tunable(3)


def batch(rows: int = 5) -> ClipBatch:
    zeros = torch.zeros(rows, dtype=torch.int64)
    clip = torch.tensor([0, 0, 1, 1, 1])
    return ClipBatch(torch.zeros(rows, 4, 8), clip, n_clips=2, machine=zeros, section=zeros)


def test_a_batch_has_no_label_name_or_path() -> None:
    names = {field.name for field in fields(ClipBatch)}
    assert names == {
        "windows", "clip", "n_clips", "machine", "section", "domain", "attributes", "group", "row_keys",
        "augmentation", "waveform", "encoded", "second_waveform", "features", "supplemental", "pseudo_label",
            "own_rows",
    }  # fmt: skip


def test_means_are_over_the_rows_of_each_clip() -> None:
    values = torch.tensor([[1.0, 10.0], [3.0, 10.0], [1.0, 0.0], [2.0, 0.0], [6.0, 3.0]])
    assert batch().mean_over_clips(values).tolist() == [[2.0, 10.0], [3.0, 1.0]]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [[2.0, 10.0], [4.0, 1.0]]),
        ("max", [[3.0, 10.0], [6.0, 3.0]]),
        ("top-k", [[3.0, 10.0], [6.0, 3.0]]),
    ],
)
def test_windows_are_pooled_over_each_clip(pooling: Pooling, expected: list[list[float]]) -> None:
    values = torch.tensor([[1.0, 10.0], [3.0, 10.0], [4.0, 0.0], [2.0, 0.0], [6.0, 3.0]])
    assert batch().pool_over_clips(values, pooling).tolist() == expected


def test_top_k_is_the_mean_of_the_highest_tenth() -> None:
    zeros = torch.zeros(30, dtype=torch.int64)
    one_clip = ClipBatch(torch.zeros(30, 1, 1), zeros, n_clips=1, machine=zeros, section=zeros)
    assert one_clip.pool_over_clips(torch.arange(30.0), "top-k").tolist() == [28.0]


def test_relative_deviation_weights_rows_by_their_distance_from_the_mean() -> None:
    values = torch.tensor([0.0, 0.0, 1.0, 1.0, 4.0])  # the last clip has mean 2 and distances 1, 1, 2
    pooled = batch().pool_over_clips(values, "relative-deviation")
    weights = np.array([1.5, 1.5, 2.0]) ** 10
    expected = (weights * np.array([1.0, 1.0, 4.0])).sum() / weights.sum()
    assert pooled.tolist() == pytest.approx([0.0, expected])
    as_vectors = batch().pool_over_clips(values[:, None].expand(5, 2), "relative-deviation")
    assert as_vectors[1].tolist() == pytest.approx([expected] * 2)


def pooled_by_clip(rows: Tensor, pooling: Pooling) -> Tensor:
    """Return the value of one clip from Float[Tensor, "row ..."], as the definitions read."""
    if pooling == "mean":
        return rows.mean(dim=0)
    if pooling == "max":
        return rows.amax(dim=0)
    if pooling == "top-k":
        return rows.topk(max(1, round(0.1 * len(rows))), dim=0).values.mean(dim=0)
    distance = (rows - rows.mean(dim=0)).flatten(1).norm(dim=1)
    weights = (1 + distance / distance.amax().clamp(min=1e-300)) ** 10
    return torch.einsum("r,r...->...", weights / weights.sum(), rows)


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_pooling_in_batch_equals_that_of_each_clip(pooling: Pooling) -> None:
    rows = [1, 5, 14, 15, 16, 25, 100, 2]  # a tenth of 5, 15 and 25 rows is rounded to even
    generator = torch.Generator().manual_seed(0)
    clip = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(rows))
    clip = clip[torch.randperm(len(clip), generator=generator)]  # of no order
    zeros = torch.zeros_like(clip)
    clips = ClipBatch(torch.zeros(len(clip), 1, 1), clip, len(rows), machine=zeros, section=zeros)
    values = torch.randn(len(clip), 3, 2, generator=generator, dtype=torch.float64).round(decimals=1)  # ties
    pooled = clips.pool_over_clips(values, pooling)
    expected = torch.stack([pooled_by_clip(values[clip == which], pooling) for which in range(len(rows))])
    torch.testing.assert_close(pooled, expected, rtol=1e-12, atol=1e-12)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="pooling is 'median'; give one of mean, max, top-k, relative-"):
        batch().pool_over_clips(torch.zeros(5), "median")  # type: ignore[arg-type]


class Counting(nn.Module):
    calls = 0

    @once_per_batch
    def embed(self, batch: ClipBatch) -> Tensor:
        self.calls += 1
        return batch.windows.sum(dim=(1, 2))

    @once_per_batch
    def other(self, batch: ClipBatch) -> Tensor:
        return self.embed(batch) + 1


def test_a_method_runs_once_per_batch_and_module_at_scoring() -> None:
    first, second, given = Counting(), Counting(), batch()
    with torch.no_grad():
        for module in (first, second, first):
            assert module.embed(given).tolist() == [0.0] * 5
            assert module.other(given).tolist() == [1.0] * 5
        first.embed(batch())
    assert (first.calls, second.calls) == (2, 1)


def test_a_method_runs_at_every_call_of_training() -> None:
    module, given = Counting(), batch()
    assert module.embed(given) is not module.embed(given)
    assert module.calls == 2
    with torch.no_grad():
        module.embed(given)
        module.embed(given.to(torch.device("cpu")))  # the same batch
    assert module.calls == 3


def test_a_batch_moves_with_all_its_tensors() -> None:
    moved = batch().to(torch.device("meta"))
    assert {value.device.type for value in vars(moved).values() if isinstance(value, Tensor)} == {"meta"}
    assert (moved.n_clips, moved.domain) == (2, None)


def test_a_masked_mean_counts_the_terms_of_the_mask() -> None:
    mean = Mean.from_values(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([True, False, True]))
    assert (float(mean.sum), int(mean.count)) == (7.0, 2)


@pytest.mark.parametrize("shape", [(3, 2), (3, 1), ()])
def test_a_mask_of_another_shape_than_the_values_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"a mask of shape \(3,\); give both the same shape"):
        Mean.from_values(torch.ones(shape), torch.ones(3, dtype=torch.bool))


@pytest.mark.parametrize("length", [{}, {"epochs": 1, "steps": 1}])
def test_a_stage_has_one_length(length: dict[str, int]) -> None:
    update = Update("all", torch.optim.SGD(nn.Linear(1, 1).parameters()))
    with pytest.raises(ValueError, match=r"stage 'one' has epochs=.* and steps=.*; give exactly one"):
        Stage("one", [update], **length)


def test_the_logarithmic_scale_keeps_sign_and_order() -> None:
    scores = torch.tensor([-100.0, -1.0, 0.0, 1.0, 100.0])
    scaled = on_scale(scores, "log")
    assert scaled.diff().min() > 0
    torch.testing.assert_close(scaled, -scaled.flip(0))
    assert scaled.abs().max() < 5
    assert torch.equal(on_scale(scores, "linear"), scores)


def test_a_subclass_inherits_the_settings_that_its_parent_names() -> None:
    class Parent(System[Config]):
        pass

    class Child(Parent):
        pass

    assert Parent.Config is Child.Config is Config
    assert Child(Config(width=4), TrainingFacts((), {})).config.width == 4


@pytest.mark.parametrize("method", ["input_spec", "batch_plan"])
def test_what_a_system_must_define_names_itself(method: str) -> None:
    class Empty(System[Config]):
        pass

    with pytest.raises(NotImplementedError, match=rf"Empty must define {method}\(cls, config\)"):
        getattr(Empty, method)(Config())


class _Windows(System[None]):
    def window_components(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        return {"level": batch.windows.mean(dim=(1, 2))}


def test_clip_scores_are_by_default_the_means_of_window_scores() -> None:
    clip, zeros = torch.tensor([0, 0, 1]), torch.zeros(3, dtype=torch.long)
    windows = torch.tensor([1.0, 3.0, 5.0])[:, None, None].expand(3, 4, 2)
    batch = ClipBatch(windows, clip, n_clips=2, machine=zeros, section=zeros)
    system = _Windows(None, TrainingFacts((), {}))
    assert _Windows.has_window_components()
    highest = type("_Highest", (_Windows,), {"window_pooling": classmethod(lambda cls, config: "max")})
    assert highest(None, TrainingFacts((), {})).components(batch)["level"].tolist() == [3.0, 5.0]
    assert system.components(batch)["level"].tolist() == [2.0, 5.0]
    assert not System.has_window_components()
    with pytest.raises(NotImplementedError, match="must define components"):
        System(None, TrainingFacts((), {})).components(batch)
