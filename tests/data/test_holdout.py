import numpy as np
import polars as pl
import pytest

from asdbench.data.holdout import describe, folds, groups, hold_out, hold_out_size, target_folds
from asdbench.data.sets.clips import CLIP_SCHEMA
from asdbench.errors import InputError

SCHEMA = {name: CLIP_SCHEMA[name] for name in ("clip_id", "domain", "attributes", "recording", "spectrum")}


def table(
    source: int,
    *,
    target: int = 0,
    speeds: list[int] | None = None,
    recordings: list[str | None] | None = None,
    levels_db: list[float] | None = None,
) -> pl.DataFrame:
    """Return training clips with ids 0, 1, ...; the target clips come last.

    Their spectra are random but for the level of one band.
    """
    count = source + target
    spectra = np.random.default_rng(count).normal(size=(count, 16))
    if levels_db is not None:
        spectra[:, 3] += levels_db
    return pl.DataFrame(
        {
            "clip_id": list(range(count)),
            "domain": ["source"] * source + ["target"] * target,
            "attributes": [[{"name": "spd", "value": str(v)}] for v in speeds or [0] * count],
            "recording": recordings or [None] * count,
            "spectrum": spectra.tolist(),
        },
        schema=SCHEMA,
    )


def drawn(clips: pl.DataFrame, seed: int = 0) -> list[int]:
    found = hold_out(clips, generator=np.random.default_rng(seed))
    assert found.tolist() == sorted(set(found.tolist()))
    return [int(clip_id) for clip_id in found]


@pytest.mark.parametrize(
    ("source", "expected"), [(990, 99), (80, 9), (79, 16), (60, 12), (36, 9), (20, 9), (10, 9), (100, 10)]
)
def test_sizes(source: int, expected: int) -> None:
    assert hold_out_size(source) == expected
    assert len(drawn(table(source, target=10))) == expected


@pytest.mark.parametrize("source", [0, 1, 9])
def test_too_few_clips_are_refused(source: int) -> None:
    with pytest.raises(InputError, match=rf"{source} source-domain training clips are too few.*at least 10"):
        drawn(table(source, target=30))


def test_target_clips_stay_in_a_single_training() -> None:
    assert max(drawn(table(100, target=100))) < 100


def test_clips_of_no_domain_count_as_source() -> None:
    clips = table(100).with_columns(domain=pl.lit(None, pl.Utf8))
    assert drawn(clips) == drawn(table(100))


@pytest.mark.parametrize("kind", ["blocks", "folds"])
def test_every_combination_gives_its_share(kind: str) -> None:
    speeds = [0] * 500 + [1] * 300 + [2] * 190
    clips = table(990, speeds=speeds, levels_db=[50.0 * speed for speed in speeds])
    parts = [drawn(clips)] if kind == "blocks" else folded(clips)
    for part in parts:
        counts = np.bincount([speeds[clip] for clip in part])
        assert np.abs(counts - len(part) * np.array([500, 300, 190]) / 990).max() <= 2


def test_both_ends_of_similar_clips_are_held_out() -> None:
    levels = [float(clip) for clip in range(100)]
    held = drawn(table(100, levels_db=levels))
    assert len(held) == 10
    assert all(clip < 9 or clip > 90 for clip in held)  # but for the noise of the other bands
    assert {clip < 50 for clip in held} == {True, False}


def test_similar_clips_are_one_block() -> None:
    place = np.random.default_rng(5).permutation(100)
    of_type = groups(table(100, levels_db=(20.0 * place).tolist()))
    assert of_type.kind == "blocks"
    assert of_type.sizes.tolist() == [20] * 5
    blocks = [set(place[of_type.group == block] // 20) for block in range(5)]
    assert all(len(block) == 1 for block in blocks)
    assert of_type.of(np.array([3, 7])).tolist() == of_type.group[[3, 7]].tolist()


def test_without_spectra_every_clip_is_a_group_and_the_generator_decides() -> None:
    clips = table(200, target=10).with_columns(spectrum=pl.lit(None, SCHEMA["spectrum"]))
    assert groups(clips).kind == "clips"
    assert drawn(clips, 1) == drawn(clips, 1)
    assert drawn(clips, 1) != drawn(clips, 2)
    assert drawn(clips.sample(fraction=1.0, shuffle=True, seed=5), 1) == drawn(clips, 1)
    assert {clip for seed in range(60) for clip in drawn(clips, seed)} == set(range(200))


def test_the_order_of_rows_does_not_matter() -> None:
    clips = table(200, target=10, speeds=[k % 3 for k in range(210)])
    assert drawn(clips.reverse()) == drawn(clips)
    assert folded(clips.sample(fraction=1.0, shuffle=True, seed=5)) == folded(clips)


def folded(clips: pl.DataFrame, seed: int = 0) -> list[list[int]]:
    found = [fold.tolist() for fold in folds(clips, generator=np.random.default_rng(seed))]
    assert all(fold == sorted(fold) for fold in found)
    return found


def test_every_source_clip_is_in_one_fold() -> None:
    for clips in (table(101, target=9), table(101, target=9, recordings=[f"r{k // 7}" for k in range(110)])):
        found = folded(clips)
        assert len(found) == 5
        assert sorted(clip for fold in found for clip in fold) == list(range(101))
        assert max(map(len, found)) - min(map(len, found)) <= 7


def test_folds_keep_recordings_whole_and_have_seeds() -> None:
    recordings: list[str | None] = [f"r{k // 10}" for k in range(120)]
    clips = table(120, recordings=recordings)
    for fold in folded(clips):
        inside = {recordings[clip] for clip in fold}
        assert not inside & {recordings[clip] for clip in set(range(120)) - set(fold)}
    assert folded(clips, 0) != folded(clips, 1)
    assert len(folded(table(90, recordings=[f"r{k // 30}" for k in range(90)]))) == 3


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
    assert 12 <= len(held) <= 24  # six recordings of one clip make it nine


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((34, 57, 95, 112), {34}),  # the shortest is enough: the seed does not decide how many clips are left
        ((9, 9, 1), {9}),  # nine would be more than a third
        ((40, 40, 10), {10}),
        ((50, 50), {10}),
        ((5, 5), {9}),
        ((30, 30, 30, 6, 6), {12}),
    ],
)
def test_about_as_many_clips_as_wanted_are_held_out(sizes: tuple[int, ...], expected: set[int]) -> None:
    recordings: list[str | None] = [f"r{k}" for k, size in enumerate(sizes) for _ in range(size)]
    clips = table(sum(sizes), recordings=recordings)
    assert {len(drawn(clips, seed)) for seed in range(10)} == expected


def test_nine_recordings_are_held_out_where_a_third_of_the_clips_suffices() -> None:
    recordings: list[str | None] = [f"r{k // 4}" for k in range(144)]  # four clips each, 14 are wanted
    held = [drawn(table(144, recordings=recordings), seed) for seed in range(9)]
    assert {len({recordings[clip] for clip in of_seed}) for of_seed in held} == {9}
    few = table(144, recordings=[f"r{k // 9}" for k in range(144)])  # nine would be 81 clips
    assert {len(drawn(few, seed)) for seed in range(9)} == {18}


def test_target_clips_are_divided_among_folds_by_recording() -> None:
    recordings: list[str | None] = [f"r{k // 10}" for k in range(100)]
    targets = ["r3", "r3", "t1", "t1", "t2", None, None, None, "t3", "r9"]
    clips = table(100, target=10, recordings=[*recordings, *targets])
    of_source = folds(clips, generator=np.random.default_rng(0))
    divided = [set(fold.tolist()) for fold in target_folds(clips, of_source)]
    assert sorted(clip for fold in divided for clip in fold) == list(range(100, 110))
    assert max(map(len, divided)) <= 3
    for fold, of_fold in zip(divided, of_source, strict=True):
        assert not {101, 100} & fold or {100, 101} <= fold
        assert not {102, 103} & fold or {102, 103} <= fold
        assert (100 in fold) == (30 in of_fold)  # source clips of the same recording are left out with them
        assert (109 in fold) == (90 in of_fold)


@pytest.mark.parametrize(
    "targets", [[], ["t"], ["t"] * 10], ids=["no target clip", "a single one", "one recording"]
)
def test_folds_leave_something_of_the_target_domain(targets: list[str | None]) -> None:
    clips = table(50, target=len(targets), recordings=[None] * 50 + targets)
    divided = target_folds(clips, folds(clips, generator=np.random.default_rng(0)))
    assert [len(fold) for fold in divided] == [0] * 5


def test_recordings_too_large_to_be_held_out_are_split() -> None:
    clips = table(100, recordings=["one"] * 99 + ["other"])
    assert groups(clips).kind == "blocks"
    assert len(drawn(clips)) == 10


def test_z_scores_tell_near_copies_from_fresh_clips() -> None:
    recordings: list[str | None] = [f"r{k // 6}" for k in range(60)]
    levels = [12.0 * (k // 6) for k in range(60)]  # recordings differ more than their clips
    copies = table(60, recordings=recordings, levels_db=levels).with_columns(machine_type=pl.lit("copies"))
    fresh = table(60, recordings=recordings).with_columns(machine_type=pl.lit("fresh"))
    few = table(8).with_columns(machine_type=pl.lit("few"))
    told = {row["machine_type"]: row for row in describe(pl.concat([fresh, few, copies])).to_dicts()}
    assert list(told) == ["copies", "few", "fresh"]
    for name in ("copies", "fresh"):
        assert (told[name]["groups_are"], told[name]["groups"], told[name]["largest"]) == (
            "recordings",
            10,
            6,
        )
        assert told[name]["z_low"] < told[name]["z_median"] < told[name]["z_high"]
        assert abs(told[name]["z_median"]) < 1
    assert told["copies"]["z_if_random"] > 3 > 1 > abs(told["fresh"]["z_if_random"])
    assert told["few"]["groups_are"] is told["few"]["z_median"] is None


def test_an_old_registration_has_groups_but_no_z_scores() -> None:
    clips = table(60).with_columns(spectrum=pl.lit(None, SCHEMA["spectrum"]), machine_type=pl.lit("fan"))
    (row,) = describe(clips).to_dicts()
    assert (row["groups_are"], row["groups"], row["z_median"]) == ("clips", 60, None)
