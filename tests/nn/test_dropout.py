import pytest
import torch
from torch.func import vmap

from asdbench.errors import InputError
from asdbench.nn.dropout import Dropout, DropoutSeed, keep_by_hash


@pytest.mark.parametrize(("p", "share"), [(0.1, 26 / 256), (0.5, 0.5), (0.001, 1 / 256), (0.999, 255 / 256)])
def test_it_drops_the_stated_share_and_keeps_the_mean(p: float, share: float) -> None:
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(1000, 1000))
    assert float((dropped == 0).double().mean()) == pytest.approx(share, abs=2e-3)
    torch.testing.assert_close(dropped.unique(), torch.tensor([0.0, 1 / (1 - share)]))
    assert float(dropped.double().mean()) == pytest.approx(1.0, abs=5e-3 / (1 - share) ** 0.5)


def test_decisions_on_neighbors_and_rows_are_independent() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(1000, 1024)) != 0).float()
    for lag in (1, 2, 4, 8, 16):
        assert float(
            torch.corrcoef(torch.stack([kept[:, lag:].flatten(), kept[:, :-lag].flatten()]))[0, 1]
        ) == (pytest.approx(0.0, abs=5e-3))
    assert float(kept.mean(dim=0).std()) == pytest.approx((0.25 / 1000) ** 0.5, rel=0.1)
    assert float(kept.mean(dim=1).std()) == pytest.approx((0.25 / 1024) ** 0.5, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_is_masked_and_scaled_like_the_output(dtype: torch.dtype) -> None:
    x = torch.ones(7, 33, dtype=dtype, requires_grad=True)
    dropped = Dropout(0.3)(x)
    dropped.backward(torch.full_like(dropped, 2.0))
    assert dropped.dtype == x.grad.dtype == dtype
    assert 0 < int((dropped == 0).sum()) < x.numel()
    assert torch.equal(x.grad, 2 * dropped)


def test_a_gradient_and_input_in_another_memory_layout_are_right() -> None:
    x = torch.randn(8, 16).T.requires_grad_()
    dropped = Dropout(0.5)(x)
    dropped.sum().backward()
    torch.testing.assert_close(dropped, x * x.grad)


def test_the_seed_of_torch_decides_and_calls_differ() -> None:
    x = torch.ones(64, 64)
    dropout = Dropout(0.5)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    assert not torch.equal(dropout(x), first)


def test_in_evaluation_or_at_zero_it_is_the_identity_and_draws_nothing() -> None:
    x = torch.ones(4)
    before = torch.get_rng_state()
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), before)


def test_it_works_under_autocast() -> None:
    layer = torch.nn.Linear(32, 32)
    x = torch.randn(8, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        dropped = Dropout(0.5)(layer(x))
    assert dropped.dtype == torch.bfloat16
    dropped.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
    assert torch.equal(layer.bias.grad, 2 * (dropped != 0).float().sum(dim=0))


def test_an_empty_input_stays_empty() -> None:
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_probability_out_of_range_is_refused(p: float) -> None:
    with pytest.raises(InputError, match="give one from 0 to below 1"):
        Dropout(p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_residual_is_added_untouched_and_the_branch_weighted(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(2300, 999, requires_grad=True)  # two parts, the last incomplete
    branch = torch.ones(2300, 999, dtype=dtype, requires_grad=True)
    dropout = Dropout(0.5)
    out = dropout.residual(x, branch, weight=0.25)
    assert out.dtype == torch.float32
    added = (out - x).detach().round(decimals=4)
    assert added.unique().tolist() == [0.0, 0.5]
    out.backward(torch.full_like(out, 3.0))
    assert torch.equal(x.grad, torch.full_like(x, 3.0))
    assert branch.grad.dtype == dtype
    assert torch.equal(branch.grad, (3 * added).to(dtype))
    torch.testing.assert_close(dropout.eval().residual(x, branch, weight=0.25), x + 0.25)
    torch.testing.assert_close(Dropout(0.0).residual(x, branch, weight=0.25), x + 0.25)


def layers(seed: int) -> torch.nn.Sequential:
    found = torch.nn.Sequential(Dropout(0.5), Dropout(0.5))
    DropoutSeed(found).set(seed)
    return found


def test_a_seed_decides_alone_and_each_layer_drops_other_elements() -> None:
    x = torch.ones(64, 64)
    before = torch.get_rng_state()
    first = layers(3)(x)
    assert torch.equal(layers(3)(x), first)
    assert not torch.equal(layers(4)(x), first)
    assert not torch.equal(layers(3 + 2**40)(x), first)
    one, two = (layer(x) for layer in layers(3))
    assert not torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("index", [0, 1])
def test_hashed_decisions_have_the_stated_share_and_are_independent(index: int) -> None:
    seeds = torch.arange(8) * 2**33 + torch.arange(8)
    keep = torch.stack([keep_by_hash(seed, [256, 1024], index, 64) for seed in seeds])
    assert float(keep.float().mean()) == pytest.approx(0.75, abs=2e-3)
    assert float(keep.float().mean(dim=(0, 1)).std()) == pytest.approx((0.1875 / 2048) ** 0.5, rel=0.1)
    flat = keep.flatten(1).float()
    correlations = torch.corrcoef(torch.cat([flat, flat.roll(1, dims=1), flat.roll(1024, dims=1)]))
    assert float((correlations - torch.eye(24)).abs().max()) < 1e-2


def test_stacked_layers_drop_what_each_drops_alone() -> None:
    x = torch.randn(3, 5, 7, dtype=torch.bfloat16)
    plus = torch.randn(3, 5, 7)
    alone = [given.clone().requires_grad_() for given in x]
    layer = Dropout(0.5)
    expected = []
    for seed, given, added in zip((3, 4, 5), alone, plus, strict=True):
        DropoutSeed(layer).set(seed)
        expected.append(layer.residual(added, layer(given), weight=0.5))
    torch.stack(expected).square().sum().backward()

    together = x.clone().requires_grad_()

    def both(seed: torch.Tensor, given: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
        layer.seed = seed
        return layer.residual(added, layer(given), weight=0.5)

    out = vmap(both)(torch.tensor([3, 4, 5]), together, plus)
    out.square().sum().backward()
    assert torch.equal(out, torch.stack(expected))
    assert torch.equal(together.grad, torch.stack([given.grad for given in alone]))


def test_it_compiles_as_one_graph() -> None:
    module = layers(3)
    x = torch.randn(4, 9, requires_grad=True)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), module(x))
    DropoutSeed(module).set(4)
    assert torch.equal(compiled(x), module(x))
