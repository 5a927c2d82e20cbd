"""Random numbers by row: known answers, an independent implementation, and what they must not depend on."""

import math
import statistics
from multiprocessing import get_context

import pytest
import torch
from torch import Tensor

from asdbench import random_by_row
from asdbench.random_by_row import integers, normal, philox, row_keys, uniform

KEYS = torch.tensor([3, -(2**61), 5, 3, 2**63 - 1, -1])
WORD = 2**32 - 1


def philox_of_ints(counter: list[int], key: list[int], rounds: int) -> list[int]:
    """Philox4x32 as in the paper, on Python's integers of any size."""
    (a, b, c, d), (low, high) = counter, key
    for _ in range(rounds):
        of_a, of_c = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (of_c >> 32) ^ b ^ low, of_c & WORD, (of_a >> 32) ^ d ^ high, of_a & WORD
        low, high = (low + 0x9E3779B9) & WORD, (high + 0xBB67AE85) & WORD
    return [a, b, c, d]


def fnv(name: str) -> int:
    value = 14695981039346656037
    for byte in name.encode():
        value = (value ^ byte) * 1099511628211 % 2**64
    return value


def words_of(key: int, draw: str, count: int) -> list[int]:
    name, key = fnv(draw), key % 2**64
    blocks = [
        philox_of_ints([block, 0, name & WORD, name >> 32], [key & WORD, key >> 32], 7)
        for block in range(-(-count // 4))
    ]
    return [word for words in blocks for word in words][:count]


# "kat_vectors" of Random123 1.14
@pytest.mark.parametrize(
    ("rounds", "counter_and_key", "answer"),
    [
        (7, "00000000 00000000 00000000 00000000 00000000 00000000",
         "5f6fb709 0d893f64 4f121f81 4f730a48"),
        (7, "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff",
         "5207ddc2 45165e59 4d8ee751 8c52f662"),
        (7, "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0",
         "4dfccaba 190a87f0 c47362ba b6b5242a"),
        (10, "00000000 00000000 00000000 00000000 00000000 00000000",
         "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (10, "ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff",
         "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (10, "243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0",
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_known_answers(rounds: int, counter_and_key: str, answer: str) -> None:
    words = [int(word, 16) for word in counter_and_key.split()]
    a, b, c, d, low, high = (torch.tensor([word]) for word in words)
    found = philox((a, b, c, d), (low, high), rounds=rounds)
    assert [f"{int(word):08x}" for word in found] == answer.split()
    assert philox_of_ints(words[:4], words[4:], rounds) == [int(word) for word in found]


def test_the_draws_are_those_of_an_independent_implementation() -> None:
    quantiles = [statistics.NormalDist().inv_cdf((which + 0.5) / 2**16) for which in range(2**16)]
    deviation = math.sqrt(sum(value**2 for value in quantiles) / 2**16)
    for row, key in enumerate(KEYS.tolist()):
        words = words_of(key, "one", 13)
        assert uniform(KEYS, 13, draw="one")[row].tolist() == [(word >> 8) / 2**24 for word in words]
        assert integers(KEYS, 13, high=7, draw="one")[row].tolist() == [word * 7 >> 32 for word in words]
        halves = [half for word in words for half in (word & 0xFFFF, word >> 16)][:25]
        expected = torch.tensor([quantiles[half] / deviation for half in halves])
        torch.testing.assert_close(normal(KEYS, 5, 5, draw="one")[row].flatten(), expected, rtol=1e-6, atol=0)
    for seed, step in ((0, 0), (2**64 - 3, 2**33 + 1)):
        words = [
            philox_of_ints(
                [row, step & WORD, step >> 32, fnv("row keys") & WORD], [seed & WORD, seed >> 32], 7
            )
            for row in range(3)
        ]
        assert [key % 2**64 for key in row_keys(seed, step, 3).tolist()] == [
            a + (b << 32) for a, b, _, _ in words
        ]


def drawn(keys: Tensor) -> list[Tensor]:
    return [
        normal(keys, 4, 51, draw="a"),
        uniform(keys, 3, draw="a"),
        uniform(keys, draw="b"),
        integers(keys, 5, high=1000, draw="a"),
    ]


def of_rank(rank: int) -> list[list[float]]:
    torch.set_num_threads(1 + rank)
    return [values.tolist() for values in drawn(row_keys(3, 7, 10)[rank::3])]


def test_a_row_depends_on_its_key_alone() -> None:
    for values in drawn(KEYS):
        assert values[0].equal(values[3])
        assert not values[0].equal(values[2])
    for rank in range(3):
        for part, whole in zip(drawn(KEYS[rank::3]), drawn(KEYS), strict=True):
            assert part.equal(whole[rank::3])
    assert normal(KEYS[:0], 4, 50, draw="a").shape == (0, 4, 50)


@pytest.mark.cluster
def test_three_processes_make_the_same_rows() -> None:
    whole = drawn(row_keys(3, 7, 10))
    with get_context("spawn").Pool(3) as pool:
        for rank, parts in enumerate(pool.map(of_rank, range(3))):
            assert parts == [values[rank::3].tolist() for values in whole]


def test_a_long_row_is_that_of_a_short_one_and_more() -> None:
    for draw in (uniform, normal):
        assert draw(KEYS, 11, draw="a").equal(draw(KEYS, 200_001, draw="a")[:, :11])


def test_compiled_and_eager_values_are_equal() -> None:
    compiled = torch.compile(drawn, backend="aot_eager", fullgraph=True)
    for keys in (KEYS, row_keys(1, 2, 40)):
        for one, other in zip(compiled(keys), drawn(keys), strict=True):
            assert one.equal(other)


def test_values_have_their_distributions_and_draws_are_independent() -> None:
    keys = row_keys(0, 0, 20)
    one, other = (normal(keys, 5000, draw=draw).flatten() for draw in "ab")
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.02
    for noise in (one, other):
        assert noise.dtype == torch.float32
        assert abs(float(noise.mean())) < 0.02
        assert abs(float(noise.std()) - 1) < 0.02
        assert abs(float(noise.pow(4).mean()) - 3) < 0.2
    flat = uniform(keys, 5000, draw="c").flatten()
    assert float(flat.min()) >= 0
    assert float(flat.max()) < 1
    assert (torch.histc(flat, 10, 0, 1) / 10_000 - 1).abs().max() < 0.05
    dice = integers(keys, 5000, high=torch.tensor(6), draw="d")
    assert (dice.flatten().bincount(minlength=6) / (100_000 / 6) - 1).abs().max() < 0.05


def test_torchs_own_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    normal(KEYS, 8, draw="a")
    assert torch.random.get_rng_state().equal(before)


def test_the_table_of_normal_values_has_a_variance_of_one() -> None:
    table = random_by_row._normal_quantiles(torch.device("cpu")).double()
    assert float(table.square().mean()) == pytest.approx(1, abs=1e-6)
    assert table.equal(-table.flip(0))


def test_the_keys_of_many_steps_are_those_of_each() -> None:
    steps = range(2**32 - 2, 2**32 + 3)
    found = row_keys(5, steps, 7)
    assert torch.equal(found, torch.stack([row_keys(5, step, 7) for step in steps]))
