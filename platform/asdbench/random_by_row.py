"""Random numbers of a row, which depend on its key, the name of the draw and the element's place alone.

Values are equal to the bit in every batch, for every number of processes that share the batch, on every
device, in eager mode and compiled. They are the words of Philox4x32-7 (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011), whose key is the row's 64-bit key and whose counter is (element, hash
of the draw's name). Seven rounds pass TestU01's BigCrush, as the paper says; the ten of other libraries take
longer. All of it is integer arithmetic modulo 2⁶⁴. Exact conversions and a table make floats of the words: a
logarithm or a cosine would be rounded differently by every device.
"""

from functools import lru_cache

import torch
from torch import Tensor

_ROUNDS = 7
_WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_CHUNK_WORDS = 1 << 15  # of a row chunk on a CPU, so that the state stays in its cache

_Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: _Words, key: tuple[Tensor, Tensor], *, rounds: int = _ROUNDS) -> _Words:
    """Return the four 32-bit words of Philox4x32 for each counter.

    Parameters
    ----------
    counter : four tensors of 32-bit words, Long[Tensor, "..."], which broadcast
    key : two tensors of 32-bit words, likewise
    rounds : number of rounds

    Examples
    --------
    >>> zero = torch.zeros(1, dtype=torch.long)
    >>> [hex(int(word)) for word in philox((zero,) * 4, (zero,) * 2, rounds=10)]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    (a, b, c, d), (low, high) = counter, key
    for turn in range(rounds):  # b and d carry bits above their word until the end: only their xor is taken
        of_a, of_c = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        left, right = (low + turn * _KEY_STEPS[0]) ^ b, (high + turn * _KEY_STEPS[1]) ^ d
        a, c = ((of_c >> 32) ^ left) & _WORD, ((of_a >> 32) ^ right) & _WORD
        b, d = of_c, of_a
    return a, b & _WORD, c, d & _WORD


def row_keys(seed: int, step: int | range, rows: int) -> Tensor:
    """Return the keys of the rows of a training step, Long[Tensor, "row"], any 64-bit values.

    Those of many steps at once, Long[Tensor, "step row"], take little longer than those of one.

    Parameters
    ----------
    seed : integer from 0, of which the lower 64 bits count
    step : from 0 to below 2⁶³, or neighboring steps
    rows : number of rows

    Examples
    --------
    >>> len(set(row_keys(0, 0, 100).tolist() + row_keys(0, 1, 100).tolist() + row_keys(1, 0, 100).tolist()))
    300
    """
    steps = torch.arange(step.start, step.stop)[:, None] if isinstance(step, range) else torch.tensor(step)
    row, of_seed, name = (
        torch.arange(rows),
        torch.tensor(_halves(seed)),
        torch.tensor(_hash("row keys") & _WORD),
    )
    a, b, _, _ = philox((row, steps & _WORD, steps >> 32, name), (of_seed[0], of_seed[1]))
    return ((b ^ 2**31) - 2**31) * 2**32 + a


def uniform(keys: Tensor, *shape: int, draw: str) -> Tensor:
    """Return uniform values from 0 to below 1, multiples of 2⁻²⁴, Float[Tensor, "row ..."] in float32.

    Parameters
    ----------
    keys : Long[Tensor, "row"], any 64-bit values; the values are made on its device
    shape : shape of a row
    draw : name of the draw; draws of a row with different names are independent

    Examples
    --------
    >>> keys = torch.tensor([7, 8, 7])
    >>> values = uniform(keys, draw="mixup")
    >>> bool(values[0] == values[2]), bool(values[0] == values[1])
    (True, False)
    """
    return (_words(keys, shape, draw) >> 8).float() * 2**-24


def integers(keys: Tensor, *shape: int, high: Tensor | int, draw: str) -> Tensor:
    """Return uniform integers from 0 to below ``high``, Long[Tensor, "row ..."]; see :func:`uniform`.

    Parameters
    ----------
    keys, shape, draw : as of :func:`uniform`
    high : from 1 to 2³¹, one number or a tensor that broadcasts with the values; a value's probability is
        off by at most 2⁻³²

    Examples
    --------
    >>> sorted(set(integers(torch.arange(100), high=3, draw="die").tolist()))
    [0, 1, 2]
    """
    return (_words(keys, shape, draw) * high) >> 32


def normal(keys: Tensor, *shape: int, draw: str) -> Tensor:
    """Return standard normal values, Float[Tensor, "row ..."] in float32; see :func:`uniform`.

    A value is one of 65,536 equiprobable quantiles, the largest 4.3, scaled to a variance of one.

    Examples
    --------
    >>> keys = torch.tensor([7, 8, 7])
    >>> noise = normal(keys, 16, draw="latent")
    >>> torch.equal(noise[0], noise[2]), torch.equal(noise[0], noise[1])
    (True, False)
    """
    size = torch.Size(shape).numel()
    words = _words(keys, (-(-size // 2),), draw)
    halves = torch.stack([words & 0xFFFF, words >> 16], dim=2).flatten(1)[:, :size]
    values: Tensor = _normal_quantiles(keys.device)
    return values.index_select(0, halves.flatten()).reshape(len(keys), *shape)


def _words(keys: Tensor, shape: tuple[int, ...], draw: str) -> Tensor:
    """Return random 32-bit words, Long[Tensor, "row ..."]."""
    size = torch.Size(shape).numel()
    blocks = -(-size // 4)
    if keys.is_cpu and not torch.compiler.is_compiling() and len(keys) * blocks > _CHUNK_WORDS:
        chunks = torch.split(keys, max(_CHUNK_WORDS // blocks, 1))
        words = torch.cat([_blocks(chunk, blocks, draw) for chunk in chunks])
    else:
        words = _blocks(keys, blocks, draw)
    return words[:, :size].reshape(len(keys), *shape)


def _blocks(keys: Tensor, blocks: int, draw: str) -> Tensor:
    """Return the words of the first counters of each row, Long[Tensor, "row word"], four each."""
    block = torch.arange(blocks, device=keys.device)
    zero, (low, high) = torch.zeros_like(block), _halves(_hash(draw))
    key = keys[:, None]
    counter = block, zero, zero + low, zero + high
    return torch.stack(philox(counter, (key & _WORD, (key >> 32) & _WORD)), dim=2).flatten(1)


def _halves(value: int) -> tuple[int, int]:
    return value & _WORD, (value >> 32) & _WORD


def _hash(name: str) -> int:
    """Return the 64-bit FNV-1a hash of a name."""
    value = 0xCBF29CE484222325
    for character in name:
        value = ((value ^ ord(character)) * 0x100000001B3) & (2**64 - 1)
    return value


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _normal_quantiles(device: torch.device) -> Tensor:
    return _quantiles_on(device)


@lru_cache
def _quantiles_on(device: torch.device) -> Tensor:
    quantiles = torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16)
    scaled: Tensor = quantiles / quantiles.square().mean().sqrt()
    return scaled.float().to(device)
