from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from asdbench.data.batch_frames import BatchFrames
from asdbench.data.preparation import BatchPreparation
from asdbench.data.raw_batch import RawBatch
from asdbench.engine.scoring import (
    _scores_of,
    clip_scores,
    fuse_components,
    join_members,
    standardized,
)
from asdbench.engine.state import backend_state, load_backend, load_trained
from asdbench.errors import InputError
from asdbench.spec import MelSpec
from asdbench.system import ClipBatch, Fusion, MemberScores, System, TrainingFacts, once_per_batch


def table(**components: list[float]) -> pl.DataFrame:
    """Return a component table; the first half of the rows is held out."""
    count = len(next(iter(components.values())))
    use = ["hold-out"] * (count // 2) + ["test"] * (count - count // 2)
    return pl.DataFrame({"clip_id": list(range(count)), "use": use, **components})


def test_components_are_standardized_on_the_hold_out_and_weighed() -> None:
    rows = np.random.default_rng(0).normal([5.0, -100.0], [2.0, 30.0], (40, 2))
    found = fuse_components(
        table(a=rows[:, 0].tolist(), b=rows[:, 1].tolist()), Fusion({"a": 0.25, "b": 0.75})
    )
    z = (rows - rows[:20].mean(axis=0)) / rows[:20].std(axis=0)
    np.testing.assert_allclose(found["score"], 0.25 * z[:, 0] + 0.75 * z[:, 1])
    assert found.columns == ["clip_id", "use", "score"]


def test_all_components_weigh_the_same_unless_told_otherwise() -> None:
    given = table(a=[0.0, 1.0, 2.0, 3.0], b=[5.0, 1.0, 0.0, 9.0])
    assert fuse_components(given, Fusion()).equals(fuse_components(given, Fusion({"a": 0.5, "b": 0.5})))
    assert not fuse_components(given, Fusion()).equals(fuse_components(given, Fusion({"a": 1.0})))


def test_a_logarithmic_scale_lets_no_component_drown_the_others() -> None:
    given = table(a=[0.0, 1.0, 2.0, 500.0], b=[5.0, 1.0, 0.0, 9.0])
    z = [standardized(given, name) for name in ("a", "b")]
    expected = 0.5 * sum(np.sign(values) * np.log(1 + np.abs(values)) for values in z)
    np.testing.assert_allclose(fuse_components(given, Fusion(scale="log"))["score"], expected)
    alone = [
        fuse_components(given, Fusion({"a": 1.0}, scale))["score"].to_numpy() for scale in ("linear", "log")
    ]
    assert np.array_equal(np.argsort(alone[0]), np.argsort(alone[1]))


def test_without_a_hold_out_nothing_is_standardized() -> None:
    given = table(a=[0.0, 1.0, 2.0, 3.0]).with_columns(use=pl.lit("test"))
    assert fuse_components(given, Fusion())["score"].to_list() == [0.0, 1.0, 2.0, 3.0]


def test_a_scale_or_shift_of_a_component_changes_no_order() -> None:
    a, b = np.random.default_rng(1).normal(size=(2, 30))
    plain = fuse_components(table(a=a.tolist(), b=b.tolist()), Fusion())["score"].to_numpy()
    moved = fuse_components(table(a=(7 * a - 3).tolist(), b=b.tolist()), Fusion())["score"].to_numpy()
    np.testing.assert_allclose(moved, plain, rtol=1e-9, atol=1e-9)


def test_a_constant_hold_out_gives_finite_scores() -> None:
    assert np.isfinite(fuse_components(table(a=[1.0, 1.0, 1.0, 2.0]), Fusion())["score"].to_numpy()).all()


def test_a_weight_of_no_component_is_refused() -> None:
    with pytest.raises(InputError, match="fusion weights name component 'c'; the system has: a"):
        fuse_components(table(a=[0.0, 1.0]), Fusion({"c": 1.0}))


class Mean(System):
    """Stands for an ensemble: the first member's score, and all components summed."""

    @classmethod
    def combine(cls, config: Any, scores: Mapping[str, MemberScores]) -> dict[str, torch.Tensor]:
        return {
            "first": scores["one"].score,
            "sum": torch.stack([c for of in scores.values() for c in of.components.values()]).sum(dim=0),
        }


def test_an_ensemble_sees_standardized_scores_of_its_members() -> None:
    one = table(a=[1.0, 3.0, 5.0, 9.0], b=[0.0, 1.0, 2.0, 3.0])
    two = table(c=[4.0, 2.0, 0.0, -4.0])
    found = join_members(
        Mean, None, {"one": (one, Fusion({"a": 1.0, "b": 0.0})), "two": (two.reverse(), Fusion())}
    )
    z = standardized(one, "a")
    assert found["clip_id"].to_list() == one.sort("use", "clip_id")["clip_id"].to_list()
    ordered = found.join(one.with_columns(z=z), on=["use", "clip_id"])
    assert ordered["first"].to_numpy() == pytest.approx(ordered["z"].to_numpy())
    assert ordered["sum"].to_numpy() == pytest.approx(np.zeros(4))  # c falls as a rises; b has no weight


def test_members_without_common_clips_cannot_be_joined() -> None:
    one = table(a=[1.0, 3.0, 5.0, 9.0])
    is_held_out = pl.col("use") == "hold-out"
    other = one.with_columns(clip_id=pl.when(is_held_out).then(pl.col("clip_id") + 7).otherwise("clip_id"))
    without = one.with_columns(use=pl.col("use").replace("hold-out", "training"))
    for wrong in (other, without):
        with pytest.raises(InputError, match="member 'two' has no hold-out clips, or none of those"):
            join_members(Mean, None, {"one": (one, Fusion()), "two": (wrong, Fusion())})
    untested = one.filter(pl.col("clip_id") != 3)
    with pytest.raises(InputError, match="member 'two' has scores of other test clips than the first"):
        join_members(Mean, None, {"one": (one, Fusion()), "two": (untested, Fusion())})


def test_members_are_standardized_on_their_own_hold_outs_and_joined_on_the_common_one() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 1))[:, 0]
    one = table(a=rows.tolist())
    two = one.filter((pl.col("use") == "test") | (pl.col("clip_id") < 4))
    joined = join_members(Mean, None, {"one": (one, Fusion()), "two": (two, Fusion())})
    assert joined.sort("clip_id")["clip_id"].to_list() == [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]
    kept = rows[[0, 1, 2, 3, 6, 7, 8, 9, 10, 11]]
    expected = (kept - rows[:6].mean()) / rows[:6].std() + (kept - rows[:4].mean()) / rows[:4].std()
    np.testing.assert_allclose(joined.sort("clip_id")["sum"], expected, rtol=1e-6)


def scores_of(*outputs: object) -> dict[str, Any]:
    """Return the scores of a system that returns one of these outputs for each batch of two clips."""
    left = list(outputs)

    class Wrong:
        def components(self, batch: ClipBatch) -> object:
            return left.pop(0)

        def embeddings(self, batch: ClipBatch) -> None:
            return None

    zeros = torch.zeros(4, dtype=torch.int64)
    batch = RawBatch(torch.zeros(4, 1, 1), zeros, 2, zeros, zeros)
    wrong: Any = Wrong()
    batches = [batch] * len(outputs)
    clips: Any = TwoClips()
    return _scores_of(wrong, lambda most: iter(batches), clips, BatchFrames(torch.device("cpu")))[0]


def test_scores_of_several_batches_are_joined() -> None:
    found = scores_of({"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([3.0, 4.0]).half()})
    assert found["a"].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_system_must_give_one_value_a_clip() -> None:
    with pytest.raises(InputError, match=r"Wrong.components returns \(2, 1\) values of 'a' for 2 clips"):
        scores_of({"a": torch.zeros(2, 1)})


def test_a_system_must_give_the_same_components_for_every_batch() -> None:
    with pytest.raises(InputError, match="the components 'a' for one batch and 'a', 'b' for another"):
        scores_of({"a": torch.zeros(2)}, {"a": torch.zeros(2), "b": torch.zeros(2)})


def test_an_ensemble_must_give_one_value_a_clip() -> None:
    class Wrong(Mean):
        @classmethod
        def combine(cls, config: Any, scores: Mapping[str, MemberScores]) -> dict[str, torch.Tensor]:
            return {"all": torch.zeros(3)}

    with pytest.raises(InputError, match=r"Wrong.combine returns \(3,\) values of 'all' for 4 clips"):
        join_members(Wrong, None, {"one": (table(a=[1.0, 3.0, 5.0, 9.0]), Fusion())})


class Embedding(System):
    """Scores and embeds; ``embedding`` is the first clip's of each batch."""

    def __init__(self, embedding: list[float]) -> None:
        torch.nn.Module.__init__(self)
        self.embedding = embedding
        self.calls = 0

    @once_per_batch
    def embed(self, batch: ClipBatch) -> Tensor:
        self.calls += 1
        return torch.tensor([self.embedding, *[[1.0, 2.0]] * (batch.n_clips - 1)])

    def components(self, batch: ClipBatch) -> dict[str, Tensor]:
        return {"a": self.embed(batch)[:, 0].clamp(0, 1)}

    def embeddings(self, batch: ClipBatch) -> Tensor:
        return self.embed(batch)


class TwoClips:
    """Stands for a job's clips: one hold-out batch of two clips, one test batch of two clips."""

    hold_out_ids, test_ids = np.array([5, 6]), np.array([7, 8])
    target_hold_out_ids = np.empty(0, np.int64)

    preparation = BatchPreparation(MelSpec())

    def scoring_share(self, ids: Any, rank: int, size: int) -> Any:
        return ids

    def raw_scoring_batches(self, ids: Any, most: BatchFrames) -> Iterator[RawBatch]:
        zeros = torch.zeros(4, dtype=torch.int64)
        yield RawBatch(torch.zeros(4, 1, 1), zeros, len(ids), zeros, zeros)


def test_embeddings_come_from_the_pass_that_scores() -> None:
    system, clips = Embedding([3.0, 1e9]), TwoClips()
    found = clip_scores(system, clips, device=torch.device("cpu"))  # type: ignore[arg-type]
    assert found.components["clip_id"].to_list() == [5, 6, 7, 8]
    assert found.embeddings is not None
    assert found.embeddings.dtype == np.float16
    assert found.embeddings.tolist() == [[3.0, 65504.0], [1.0, 2.0]] * 2
    assert system.calls == 2  # one for each batch


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (torch.zeros(3, 2), r"returns shape \(3, 2\) for 2 clips; return one vector per clip"),
        (np.zeros((2, 2)), "returns a value of type numpy.ndarray for 2 clips; return a tensor"),
        (torch.zeros(2), r"returns shape \(2,\) for 2 clips"),
        (torch.zeros(2, 0), r"returns shape \(2, 0\) for 2 clips"),
        (torch.tensor([[0.0, np.nan], [1.0, np.inf]]), "returns 2 values that are not finite"),
    ],
)
def test_embeddings_of_a_wrong_shape_or_value_are_refused(embeddings: Any, message: str) -> None:
    system = Embedding([0.0, 0.0])
    system.embeddings = lambda batch: embeddings  # type: ignore[method-assign]
    with pytest.raises(InputError, match=f"Embedding.embeddings {message}"):
        clip_scores(system, TwoClips(), device=torch.device("cpu"))  # type: ignore[arg-type]


def test_a_system_without_embeddings_stores_none() -> None:
    system = Embedding([0.0, 0.0])
    system.embeddings = lambda batch: None  # type: ignore[method-assign]
    assert clip_scores(system, TwoClips(), device=torch.device("cpu")).embeddings is None  # type: ignore[arg-type]


def test_the_back_ends_state_is_what_training_did_not_leave() -> None:
    class Scorer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trained = torch.nn.Linear(2, 2)
            self.own = torch.nn.Linear(2, 2)
            self.register_buffer("mean", torch.ones(3))
            self.register_buffer("same", torch.ones(3))

    scorer: Any = Scorer()
    after_training = {"own.weight": scorer.own.weight, "own.bias": scorer.own.bias, "same": torch.ones(3)}
    assert list(backend_state(scorer, after_training)) == ["mean"]
    assert list(backend_state(scorer, after_training | {"same": torch.zeros(3)})) == ["mean", "same"]
    assert list(backend_state(scorer, after_training | {"mean": torch.ones(2)})) == ["mean"]


class Bank(System):
    """Layers, and a back end whose bank gets its size when it is fitted."""

    def __init__(self, size: int) -> None:
        super().__init__(None, TrainingFacts((), {}))
        self.layer = torch.nn.Linear(2, 2)
        self.register_buffer("bank", torch.zeros(size))


def test_a_training_is_loaded_whatever_the_size_of_the_back_end() -> None:
    trained: Any = Bank(3)
    other: Any = Bank(5)
    load_trained(other, trained.state_dict())
    assert other.layer.weight.equal(trained.layer.weight)
    assert other.bank.shape == (5,)
    load_backend(other, {"bank": torch.ones(7)})
    assert other.bank.equal(torch.ones(7))


def test_a_training_without_a_layer_is_refused() -> None:
    system: Any = Bank(3)
    with pytest.raises(ValueError, match=r"has no 'layer\.bias'"):
        load_trained(system, {"layer.weight": torch.zeros(2, 2)})
