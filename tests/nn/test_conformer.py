import pytest
import torch
from torch import Tensor, nn

from asdbench.errors import InputError
from asdbench.features.torchaudio_import import torchaudio
from asdbench.nn.conformer import Conformer, ConformerBlock
from asdbench.nn.pooling import AttentiveStatisticsPooling
from tests.nn.torchaudio_weights import from_torchaudio


def twins(blocks: int, dropout: float = 0.0) -> tuple[nn.Module, Conformer]:
    """Return torchaudio's conformer and ours with the same random weights and running statistics."""
    torch.manual_seed(0)
    theirs = torchaudio.models.Conformer(
        input_dim=256, num_heads=4, ffn_dim=512, num_layers=blocks, depthwise_conv_kernel_size=15,
        dropout=dropout, use_group_norm=False, convolution_first=False,
    )  # fmt: skip
    with torch.no_grad():
        for value in theirs.state_dict().values():
            if value.is_floating_point():
                value.add_(0.05 * torch.rand_like(value))
    ours = Conformer(256, blocks=blocks, dropout=dropout)
    ours.blocks.load_state_dict(from_torchaudio(theirs.state_dict()))
    return theirs, ours


def run_theirs(model: nn.Module, x: Tensor) -> Tensor:
    return model(x, torch.full((len(x),), x.shape[1]))[0]


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 7, 64])
def test_it_agrees_with_torchaudio_in_evaluation(frames: int) -> None:
    theirs, ours = twins(blocks=3)
    x = torch.randn(3, frames, 256)
    with torch.no_grad():
        assert_close(ours.eval().blocks(x), run_theirs(theirs.eval(), x))


def test_its_gradients_and_running_statistics_agree_with_torchaudio_in_training() -> None:
    theirs, ours = (model.double() for model in twins(blocks=2))
    x = torch.randn(4, 32, 256, dtype=torch.float64, requires_grad=True)
    target = torch.randn(4, 32, 256, dtype=torch.float64)
    expected = torch.autograd.grad((run_theirs(theirs, x) * target).sum(), [x, *theirs.parameters()])
    found = torch.autograd.grad((ours.blocks(x) * target).sum(), [x, *ours.blocks.parameters()])
    assert_close(found[0], expected[0])
    names = [name for name, _ in theirs.named_parameters()]
    expected_of = from_torchaudio(dict(zip(names, expected[1:], strict=True)))
    names = [name for name, _ in ours.blocks.named_parameters()]
    assert sorted(expected_of) == sorted(names)
    for name, gradient in zip(names, found[1:], strict=True):
        assert_close(gradient, expected_of[name])
    for layer, block in zip(theirs.conformer_layers, ours.blocks, strict=True):
        norm = layer.conv_module.sequential[3]
        assert_close(block.convolution.batch_norm.running_mean, norm.running_mean)
        assert_close(block.convolution.batch_norm.running_var, norm.running_var)


def test_the_input_is_projected_and_the_output_normalized() -> None:
    torch.manual_seed(0)
    model = Conformer(24, width=32, heads=2, ffn=16, blocks=1, kernel=3).eval()
    x = torch.randn(2, 9, 24)
    with torch.no_grad():
        expected = model.blocks(nn.functional.layer_norm(x @ model.project[0].weight.T, (32,)))
        model.project[0].bias.zero_()
        found = model(x)
    assert_close(found, nn.functional.layer_norm(expected, (32,)))
    assert_close(found.mean(dim=2), torch.zeros(2, 9))


def test_the_number_of_parameters_is_that_of_the_report() -> None:
    trunk = nn.ModuleList(
        [Conformer(128), AttentiveStatisticsPooling(), nn.BatchNorm1d(512), nn.Linear(512, 128)]
    )
    block = ConformerBlock(256, heads=4, ffn=512, kernel=15, dropout=0.1)
    assert count(block) == 993_536
    assert count(trunk) == 3_147_264
    assert count(Conformer(128, kernel=31)) - count(Conformer(128)) == 12_288


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("bf16", [False, True])
def test_dropout_is_active_in_training_only(bf16: bool) -> None:
    torch.manual_seed(0)
    model = Conformer(8, width=16, heads=2, ffn=16, blocks=1, kernel=3, dropout=0.3)
    x = torch.randn(2, 5, 8)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


def test_under_autocast_it_stays_near_float32_and_trains() -> None:
    _, ours = twins(blocks=3)
    x = torch.randn(2, 32, 256)
    with torch.no_grad():
        expected = ours.eval()(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = ours(x)
        assert (found.float() - expected).abs().mean() < 0.02
        ours.train()(x).float().square().mean().backward()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == torch.float32
        assert bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 3}, "width 256 is not a multiple of the number of heads 3"),
        ({"kernel": 14}, "kernel is 14 frames; give an odd number"),
        ({"dropout": 1.0}, "dropout probability is 1.0"),
    ],
)
def test_impossible_sizes_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Conformer(128, **settings)
