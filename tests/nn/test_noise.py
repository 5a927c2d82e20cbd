"""Noise by row keys."""

import torch

from asdbench.nn.noise import normal_by_row

KEYS = torch.tensor([3, 2**61, 5, 3])


def test_a_row_depends_on_its_key_alone() -> None:
    noise = normal_by_row(KEYS, 4, 50, draw="a")
    assert noise.shape == (4, 4, 50)
    assert noise.dtype == torch.float32
    assert noise[0].equal(noise[3])
    assert not noise[0].equal(noise[2])
    for rank in (0, 1):
        assert normal_by_row(KEYS[rank::2], 4, 50, draw="a").equal(noise[rank::2])
    assert normal_by_row(KEYS[:0], 4, 50, draw="a").shape == (0, 4, 50)


def test_draws_of_one_row_are_independent_and_normal() -> None:
    one, other = (normal_by_row(torch.arange(20), 5000, draw=draw).flatten() for draw in "ab")
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.02
    for noise in (one, other):
        assert abs(float(noise.mean())) < 0.02
        assert abs(float(noise.std()) - 1) < 0.02
        assert abs(float(noise.pow(4).mean()) - 3) < 0.2


def test_torchs_own_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    normal_by_row(KEYS, 8, draw="a")
    assert torch.random.get_rng_state().equal(before)
