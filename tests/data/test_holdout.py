import numpy as np
import polars as pl
import pytest

from asdbench.data.holdout import hold_out, hold_out_size
from asdbench.data.sets.clips import CLIP_SCHEMA
from asdbench.errors import InputError

SCHEMA = {name: CLIP_SCHEMA[name] for name in ("clip_id", "domain", "attributes", "recording")}


def table(
    source: int,
    *,
    target: int = 0,
    speeds: list[int] | None = None,
    recordings: list[str | None] | None = None,
) -> pl.DataFrame:
    """Return training clips with ids 0, 1, ...; the target clips come last."""
    count = source + target
    return pl.DataFrame(
        {
            "clip_id": list(range(count)),
            "domain": ["source"] * source + ["target"] * target,
            "attributes": [[{"name": "spd", "value": str(v)}] for v in speeds or [0] * count],
            "recording": recordings or [None] * count,
        },
        schema=SCHEMA,
    )


def drawn(clips: pl.DataFrame, seed: int = 0) -> list[int]:
    found = hold_out(clips, generator=np.random.default_rng(seed))
    assert found.tolist() == sorted(set(found.tolist()))
    return [int(clip_id) for clip_id in found]


@pytest.mark.parametrize(
    ("source", "expected"), [(990, 99), (80, 8), (79, 16), (60, 12), (36, 8), (20, 8), (9, 8), (100, 10)]
)
def test_sizes(source: int, expected: int) -> None:
    assert hold_out_size(source) == expected
    assert len(drawn(table(source, target=10))) == expected


@pytest.mark.parametrize("source", [0, 1, 8])
def test_too_few_clips_are_refused(source: int) -> None:
    with pytest.raises(InputError, match=rf"{source} source-domain training clips are too few.*at least 9"):
        drawn(table(source, target=30))


def test_target_clips_stay_in_training() -> None:
    assert max(drawn(table(100, target=100))) < 100


def test_clips_of_no_domain_count_as_source() -> None:
    clips = table(100).with_columns(domain=pl.lit(None, pl.Utf8))
    assert drawn(clips) == drawn(table(100))


def test_every_combination_gives_its_share() -> None:
    speeds = [0] * 500 + [1] * 300 + [2] * 190
    held = drawn(table(990, speeds=speeds))
    counts = np.bincount([speeds[clip] for clip in held])
    assert np.abs(counts - [50, 30, 19]).max() <= 1


def test_many_small_combinations_give_what_is_wanted() -> None:
    assert len(drawn(table(990, speeds=list(range(990))))) == 99
    held = drawn(table(40, speeds=[k // 2 for k in range(40)]))
    assert len({clip // 2 for clip in held}) == 8  # never both clips of a pair


def test_the_generator_decides_and_the_order_of_rows_does_not() -> None:
    clips = table(200, target=10, speeds=[k % 3 for k in range(210)])
    assert drawn(clips, 1) == drawn(clips, 1)
    assert drawn(clips, 1) != drawn(clips, 2)
    assert drawn(clips.sample(fraction=1.0, shuffle=True, seed=5), 1) == drawn(clips, 1)
    assert drawn(clips.reverse(), 1) == drawn(clips, 1)


def test_every_clip_can_be_drawn() -> None:
    clips = table(40, speeds=[k % 3 for k in range(40)])
    assert {clip for seed in range(60) for clip in drawn(clips, seed)} == set(range(40))


@pytest.mark.parametrize("seed", range(5))
def test_recordings_are_held_out_whole(seed: int) -> None:
    recordings: list[str | None] = [f"r{k // 6}" for k in range(120)]
    clips = table(120, recordings=recordings)
    held = drawn(clips, seed)
    assert len(held) == 12
    assert not {recordings[clip] for clip in held} & {
        recordings[clip] for clip in set(range(120)) - set(held)
    }
    assert drawn(clips.reverse(), seed) == held


@pytest.mark.parametrize("seed", range(5))
def test_a_clip_of_unknown_recording_stands_for_itself(seed: int) -> None:
    recordings = [f"r{k // 6}" if k < 114 else None for k in range(120)]
    held = drawn(table(120, recordings=recordings), seed)
    left = set(range(120)) - set(held)
    assert not {recordings[c] for c in held} & {recordings[c] for c in left} - {None}
    assert 12 <= len(held) < 18


def test_something_is_left_to_train_on() -> None:
    for seed in range(10):
        assert len(drawn(table(40, recordings=[f"r{k // 20}" for k in range(40)]), seed)) == 20


def test_recordings_too_large_to_be_held_out_are_split() -> None:
    recordings: list[str | None] = ["one"] * 99 + ["other"]
    for seed in range(5):
        assert len(drawn(table(100, recordings=recordings), seed)) == 10
