"""Low-rank terms start at zero, reach every way of reading a matrix, and leave pretrained tensors alone."""

import pytest
import torch
from torch import nn

from asdbench.nn.encoders import build
from asdbench.nn.lora import add_low_rank, load_frozen, original_name

PATTERN = r".*(in_proj_weight|out_proj\.weight|linear\d\.weight)"


def layer() -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)


X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))


def test_it_starts_from_the_pretrained_network_and_trains_the_terms_alone() -> None:
    plain, tuned = layer(), layer()
    trained = add_low_rank(tuned, PATTERN, rank=2, scale=4.0)
    torch.testing.assert_close(tuned(X), plain(X))
    assert len(trained) == 8
    assert sum(part.numel() for part in trained) < 0.5 * sum(part.numel() for part in plain.parameters())
    optimizer = torch.optim.SGD(trained, lr=0.1)
    tuned(X).square().sum().backward()
    optimizer.step()
    assert not torch.allclose(tuned(X), plain(X))
    frozen = {
        original_name(name): value for name, value in tuned.named_parameters() if not value.requires_grad
    }
    for name, value in plain.named_parameters():
        assert torch.equal(frozen[name], value)


def test_the_term_is_the_product_scaled_by_the_rank() -> None:
    network = nn.Sequential(nn.Linear(6, 4))
    before = network[0].weight.detach().clone()
    down, up = add_low_rank(network, r"0\.weight", rank=2, scale=6.0)
    nn.init.normal_(up)
    torch.testing.assert_close(network[0].weight, before + 3.0 * up @ down)


def test_fast_paths_of_torch_see_the_terms() -> None:
    tuned = layer()
    for part in add_low_rank(tuned, PATTERN, rank=2, scale=4.0):
        nn.init.normal_(part, std=0.3)
    expected = tuned.train()(X)
    with torch.inference_mode():
        torch.testing.assert_close(tuned.eval()(X), expected, atol=1e-4, rtol=1e-4)


def test_pretrained_tensors_are_shared_under_their_own_names_and_checked() -> None:
    other, tuned = layer(), layer()
    nn.init.normal_(other.linear1.weight)
    add_low_rank(tuned, PATTERN, rank=2, scale=4.0)
    load_frozen(tuned, other.state_dict())
    torch.testing.assert_close(tuned(X), other(X))
    shared = dict(tuned.named_parameters())["linear1.parametrizations.weight.original"]
    assert shared.data_ptr() == other.linear1.weight.data_ptr()
    wrong = {**other.state_dict(), "linear1.weight": torch.zeros(3, 3)}
    with pytest.raises(ValueError, match=r"do not fit the network, the first at 'linear1\.weight'"):
        load_frozen(tuned, wrong)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no matrix has a name that matches 'qkv'"):
        add_low_rank(layer(), "qkv", rank=2, scale=1.0)


def test_encoders_have_no_batch_norm_that_a_data_parallel_training_would_replace() -> None:
    """It would take the statistics of the batch, and two processes would train another model than one."""
    for name in ("ced-tiny", "dasheng-base", "echo-small", "eat-base", "wav2vec2-base"):
        encoder = build(name, dim=16, depth=1, heads=2)
        kinds = [type(part) for part in encoder.modules()]
        assert not any(issubclass(kind, nn.modules.batchnorm._BatchNorm) for kind in kinds), name
