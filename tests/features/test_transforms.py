"""The batched transforms: each row is that of the single-row reference in ``row_by_row.py``."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench import random_by_row
from asdbench.features.augment import ON_WAVEFORM, TRANSFORMS, Group, mask_windows, transformed
from asdbench.features.transform_draws import assigned, draw, slots
from tests.features import row_by_row

LENGTH = 5000
CLIP = 40_000
WINDOW = (30, 40)
MASKS = ("frequency_mask", "time_mask")


def noise(samples: int, seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-3000, 3000, samples, dtype=np.int16)


def drawn(
    clips: Sequence[NDArray[np.int16]],
    starts: Sequence[int],
    transform: str,
    *,
    seed: int = 0,
    length: int = LENGTH,
) -> Group:
    """Return the group of a batch whose rows all pass through one transform."""
    (group,) = draw(
        [transform],
        torch.zeros(len(clips), dtype=torch.long),
        random_by_row.row_keys(seed, 0, len(clips)),
        torch.tensor(starts),
        torch.tensor([len(clip) for clip in clips]),
        {transform: len(clips)},
        length=length,
        window=WINDOW,
    )
    return group


def contexts(clips: Sequence[NDArray[np.int16]], group: Group) -> Tensor:
    rows = [
        clips[source][np.arange(first, first + group.samples) % len(clips[source])]
        for source, first in zip(group.sources.tolist(), group.first.tolist(), strict=True)
    ]
    return torch.from_numpy(np.stack(rows))


def reference(clips: Sequence[NDArray[np.int16]], starts: Sequence[int], group: Group, length: int) -> Tensor:
    rows = np.zeros((len(group.rows), length), np.float32)
    for slot, row in enumerate(group.sources.tolist()):
        of = {name: values[slot].item() for name, values in group.drawn.items()}
        place = clips[row], starts[row], length
        match group.transform:
            case "noise":
                values = random_by_row.normal(group.drawn["key"][slot][None], length, draw="noise")[0].numpy()
                rows[slot] = row_by_row.noise(*place, gain=of["gain"], values=values)
            case "fade":
                rows[slot] = row_by_row.fade(*place, into=of["into"], out=of["out"], shape=of["shape"])
            case "shift":
                rows[slot] = row_by_row.shift(*place, by=starts[row] - int(group.first[slot]))
            case "stretch":
                rows[slot] = row_by_row.stretch(*place, step=of["step"])
            case "pitch":
                rows[slot] = row_by_row.pitch(*place, hop=of["hop"])
    return torch.from_numpy(rows)


@pytest.mark.parametrize("transform", sorted(ON_WAVEFORM))
@pytest.mark.parametrize("length", [LENGTH, 41_824])
def test_every_row_is_that_of_the_reference(transform: str, length: int) -> None:
    sizes = [4 * length, 4 * length, 4 * length, length + 1, length - 1, 700, 2, 1]
    clips = [noise(size, seed) for seed, size in enumerate(sizes) for _ in range(3)]
    starts = [start for size in sizes for start in (-512, size // 3, size - length + 512)]
    group = drawn(clips, starts, transform, length=length)
    found = transformed(contexts(clips, group), group, length)
    assert found.dtype == torch.float32
    assert found.shape == (len(clips), length)
    torch.testing.assert_close(found, reference(clips, starts, group, length), rtol=1e-5, atol=5e-7)


@pytest.mark.parametrize("transform", sorted(ON_WAVEFORM))
def test_the_graph_has_fixed_shapes_no_break_and_the_same_crops(transform: str) -> None:
    clips, starts = [noise(CLIP, seed) for seed in range(5)], [-512, 0, 100, CLIP // 2, CLIP - LENGTH + 512]
    compiled = torch.compile(transformed, backend="aot_eager", fullgraph=True, dynamic=False)
    with torch.compiler.set_stance("default"):
        for seed in range(3):
            group = drawn(clips, starts, transform, seed=seed)
            found = compiled(contexts(clips, group), group, LENGTH)
            expected = transformed(contexts(clips, group), group, LENGTH)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-7)
            torch.compiler.set_stance("fail_on_recompile")


@pytest.mark.parametrize("transform", MASKS)
@pytest.mark.parametrize("window", [WINDOW, (256, 128), (4, 3)])
def test_a_mask_blanks_the_drawn_stripe_of_its_rows(transform: str, window: tuple[int, int]) -> None:
    names, rows = ("identity", transform), 9
    chosen = assigned(names, seed=0, step=0, rows=rows)
    keys, zeros = random_by_row.row_keys(0, 0, rows), torch.zeros(rows, dtype=torch.long)
    (group,) = draw(
        names, chosen, keys, zeros, zeros + CLIP, slots(names, rows), length=LENGTH, window=window
    )
    assert len(group.rows) == 5
    windows = torch.rand(rows + 1, *window) + 1
    expected = windows[:-1].clone()
    for slot, row in enumerate(group.rows.tolist()):
        if row < rows:
            begin, width = (int(group.drawn[name][slot]) for name in ("begin", "width"))
            row_by_row.mask(expected[row], 0 if transform == "time_mask" else 1, begin=begin, width=width)
    mask_windows(windows, group)
    assert torch.equal(windows[:-1], expected)
    assert [bool((row == 0).any()) for row in expected] == (chosen == 1).tolist()


# Which row passes through which transform


@pytest.mark.parametrize("rows", [7, 64, 128, 100])
@pytest.mark.parametrize("names", [TRANSFORMS, ("identity",) * 3 + ("noise", "stretch", "pitch")])
def test_a_batch_has_as_many_rows_of_one_transform_as_of_another(names: tuple[str, ...], rows: int) -> None:
    counts = assigned(names, seed=1, step=2, rows=rows).bincount(minlength=len(names))
    assert counts.max() - counts.min() <= max(1, rows // len(names) ** 2)
    if rows % len(names) == 0:
        assert set(counts.tolist()) == {rows // len(names)}


def test_every_transform_is_equally_likely_for_each_row() -> None:
    chosen = torch.stack([assigned(TRANSFORMS, seed=0, step=step, rows=72) for step in range(400)])
    assert not torch.equal(chosen[0], chosen[1])
    assert not torch.equal(chosen[0], assigned(TRANSFORMS, seed=1, step=0, rows=72))
    for row in (0, 9, 71):
        counts = chosen[:, row].bincount(minlength=8)
        assert counts.min() > 25
        assert counts.max() < 75


def test_the_intact_row_has_the_identity_and_the_others_keep_their_balance() -> None:
    given_away = 0
    for step in range(20):
        chosen = assigned(TRANSFORMS, seed=0, step=step, rows=64, intact=40)
        free = assigned(TRANSFORMS, seed=0, step=step, rows=64)
        assert TRANSFORMS[chosen[40]] == "identity"
        assert chosen.bincount().tolist() == [8] * 8
        given_away += int((chosen != free).sum())
    assert 20 < given_away <= 40
    assert assigned(("noise", "fade"), seed=0, step=0, rows=4, intact=1).bincount().tolist() == [2, 2]


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("rows", [5, 64, 128, 100])
def test_the_slots_of_a_process_suffice(rows: int, processes: int) -> None:
    names = (*TRANSFORMS, "noise")
    room = slots(names, rows, processes)
    most = dict.fromkeys(names, 0)
    for step in range(30):
        chosen = assigned(names, seed=0, step=step, rows=rows, intact=rows // 2)
        for rank in range(processes):
            counts = chosen[rank::processes].bincount(minlength=len(names)).tolist()
            for name in TRANSFORMS:
                of_name = sum(count for one, count in zip(names, counts, strict=True) if one == name)
                most[name] = max(most[name], of_name)
    for name in most:
        assert most[name] <= room[name] <= 2 * most[name] + 4


def test_processes_with_half_of_the_rows_need_half_of_the_slots() -> None:
    assert slots(TRANSFORMS, 128) == dict.fromkeys(TRANSFORMS, 16)
    assert slots(TRANSFORMS, 128, 2) == dict.fromkeys(TRANSFORMS, 9)


# What is drawn


def test_a_process_has_at_most_as_many_slots_as_rows() -> None:
    assert slots(["pitch"], 64, processes=4) == {"pitch": 16}


def test_a_process_without_a_row_has_no_groups() -> None:
    none = torch.zeros(0, dtype=torch.long)
    room = slots(["noise", "pitch"], 2, processes=3)
    assert draw(["noise", "pitch"], *[none] * 4, room, length=LENGTH, window=WINDOW) == ()


def test_a_row_of_a_batch_that_is_shared_is_the_same() -> None:
    rows, names = 48, TRANSFORMS
    clips, starts = [noise(CLIP, seed) for seed in range(rows)], [100 * row - 512 for row in range(rows)]
    chosen = assigned(names, seed=0, step=0, rows=rows)
    keys = random_by_row.row_keys(0, 0, rows)

    def crops_and_masks(rank: int, processes: int) -> tuple[Tensor, Tensor]:
        mine = slice(rank, None, processes)
        groups = draw(
            names, chosen[mine], keys[mine], torch.tensor(starts[mine]), torch.full_like(keys[mine], CLIP),
            slots(names, rows, processes), length=LENGTH, window=WINDOW,
        )  # fmt: skip
        count = len(keys[mine])
        crops, windows = torch.zeros(count + 1, LENGTH), torch.ones(count + 1, *WINDOW)
        for group in groups:
            if group.transform in MASKS:
                mask_windows(windows, group)
            else:
                crops[group.rows] = transformed(contexts(clips[mine], group), group, LENGTH)
        return crops[:-1], windows[:-1]

    whole = crops_and_masks(0, 1)
    for rank in range(3):
        for part, of_whole in zip(crops_and_masks(rank, 3), whole, strict=True):
            torch.testing.assert_close(part, of_whole[rank::3], rtol=1e-6, atol=1e-7)


def test_contexts_lie_in_the_clip_if_it_is_long_enough() -> None:
    clips = [noise(CLIP)] * 200
    for transform in ("stretch", "pitch"):
        group = drawn(
            clips, [*range(-512, -512 + 100), *range(CLIP - LENGTH, CLIP - LENGTH + 100)], transform
        )
        assert int(group.first.min()) >= 0
        assert int(group.first.max()) + group.samples <= CLIP


def test_draws_have_the_ranges_that_the_documentation_tells() -> None:
    clips, starts = [noise(CLIP)] * 2000, [0] * 2000
    values = {
        "noise": -20 * drawn(clips, starts, "noise").drawn["gain"].log10(),
        "into": drawn(clips, starts, "fade").drawn["into"],
        "out": drawn(clips, starts, "fade").drawn["out"],
        "shape": drawn(clips, starts, "fade").drawn["shape"],
        "shift": -drawn(clips, starts, "shift").first,
        "rate": drawn(clips, starts, "stretch").drawn["step"] / 256,
        "semitones": 12 * (256 / drawn(clips, starts, "pitch").drawn["hop"]).log2(),
        "begin": drawn(clips, starts, "time_mask").drawn["begin"],
        "width": drawn(clips, starts, "frequency_mask").drawn["width"],
    }
    ranges = {
        "noise": (-6, 6), "into": (0, CLIP // 2), "out": (0, CLIP // 2), "shape": (0, 4),
        "shift": (0, 80_000), "rate": (0.5, 2), "semitones": (-10, 10), "begin": (0, 29), "width": (1, 4),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        found = values[name].double()
        assert float(found.min()) == pytest.approx(low, abs=0.006 * (high - low)), name
        assert float(found.max()) == pytest.approx(high, abs=0.006 * (high - low)), name
        assert float(found.mean()) == pytest.approx((low + high) / 2, abs=0.04 * (high - low)), name
