from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
import torch

from asdbench.data.clip_windows import window_starts
from asdbench.data.embeddings import embeddings
from asdbench.data.loader import JobData
from asdbench.data.raw_batch import RawBatch
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InputError
from asdbench.features.augment import ON_WAVEFORM, TRANSFORMS
from asdbench.features.mel import log_mel, log_mel_of_padded
from asdbench.io.workspace import Workspace
from asdbench.spec import EncoderSpec, MelSpec
from asdbench.system import UNKNOWN, BatchPlan, ClipBatch, HoldOut, InputSpec, Scope
from asdbench.testing import tiny_encoder, write_tiny

NEEDS = InputSpec(MelSpec(hop_samples=512, n_mels=8), window_frames=5, window_hop_frames=1)
EVERY = BatchPlan(64, draw="every-window", validation_share=0.1)
CLIPS = BatchPlan(16, draw="window-per-clip", pseudo_anomaly_share=0.5, target_rows=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    base = tmp_path_factory.mktemp("loader")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDBENCH_HOME", str(base / "home"))
        yield catalog.add(
            Workspace.from_environment(),
            "tiny",
            write_tiny(base / "clips", machine_types=("fan", "pump", "valve")),
        )


def job(data: DataSet, *, input_spec: InputSpec = NEEDS, plan: BatchPlan = EVERY, seed: int = 3) -> JobData:
    return JobData(data, "pump", input_spec=input_spec, plan=plan, seed=seed)


def windows_of(found: JobData, clip_ids: Any, *, length: int = 5) -> Counter[bytes]:
    """Return every window of the given clips, as bytes, from the stored frames."""
    shard = found._stored.mels.shards[0]
    return Counter(
        shard.clip(int(clip_id))[start : start + length].astype(np.float32).tobytes()
        for clip_id in clip_ids
        for start in range(len(shard.clip(int(clip_id))) - length + 1)
    )


def content(batch: ClipBatch) -> list[bytes]:
    return [row.numpy().tobytes() for row in batch.windows]


def same(one: ClipBatch, other: ClipBatch) -> bool:
    return all(
        torch.equal(value, vars(other)[name])
        if isinstance(value, torch.Tensor)
        else value == vars(other)[name]
        for name, value in vars(one).items()
    )


# Windows


@pytest.mark.parametrize(("duration_s", "expected"), [(10, 7), (12, 9), (6, 4), (2.5, 1)])
def test_the_windows_of_a_clip(duration_s: float, expected: int) -> None:
    frames = max(256, MelSpec().frames(round(16000 * duration_s)))
    starts = window_starts(frames, 256, 128)
    assert len(starts) == expected
    assert starts[-1] + 256 == frames
    assert len(set(starts.tolist())) == expected
    assert (np.diff(starts) <= 128).all()


def test_window_starts_in_full() -> None:
    assert window_starts(1001, 256, 128).tolist() == [0, 128, 256, 384, 512, 640, 745]
    assert window_starts(512, 256, 128).tolist() == [0, 128, 256]  # the last is not given twice
    assert window_starts(313, 5, 1).tolist() == list(range(309))
    assert window_starts(256, 256, 128).tolist() == [0]


# Leaks


def with_content_of(data: DataSet, taken: pl.Expr, given: pl.Expr) -> DataSet:
    """Give the first clip that ``taken`` chooses the content of the first that ``given`` chooses."""
    content_hash = data.clips.filter(given).sort("path")["content_hash"][0]
    path = data.clips.filter(taken).sort("path")["path"][0]
    changed = pl.when(pl.col("path") == path).then(pl.lit(content_hash)).otherwise("content_hash")
    return replace(data, clips=data.clips.with_columns(content_hash=changed))


def of(machine_type: str, split: str) -> pl.Expr:
    return (pl.col("machine_type") == machine_type) & (pl.col("split") == split)


@pytest.mark.parametrize("plan", [EVERY, CLIPS, replace(EVERY, hold_out=False)])
@pytest.mark.parametrize("tested", ["pump", "fan"])
def test_a_training_clip_with_the_content_of_a_test_clip_is_refused(
    data: DataSet, plan: BatchPlan, tested: str
) -> None:
    leaky = with_content_of(data, of("pump", "train"), of(tested, "test"))
    with pytest.raises(
        InputError,
        match=rf"data leak: 1 training clips of pump in data set 'tiny' .* \(the first: pump/train/.*\.wav = "
        rf"{tested}/test/.*\.wav\); remove one of each pair, then register .* with 'asdbench data add",
    ):
        job(leaky, plan=plan)


def test_so_is_a_pseudo_anomaly(data: DataSet) -> None:
    leaky = with_content_of(data, of("valve", "train"), of("pump", "test"))
    with pytest.raises(InputError, match=r"data leak: 1 training clips of valve in data set 'tiny' have"):
        job(leaky, plan=CLIPS)
    assert job(leaky, plan=EVERY).training_ids.tolist() == job(data).training_ids.tolist()  # takes none


def test_so_is_a_pseudo_anomaly_of_another_data_set(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    folder = write_tiny(tmp_path / "clips", machine_types=["fan"], seed=5)
    sound = (data.root / data.clips.filter(of("pump", "test"))["path"][0]).read_bytes()
    next((folder / "fan" / "train").glob("*.wav")).write_bytes(sound)
    pseudo_anomaly_data = catalog.add(Workspace.from_environment(), "pseudo_anomaly_data", folder)
    with pytest.raises(
        InputError,
        match=r"of fan in data set 'pseudo_anomaly_data' .* data set 'tiny' .* with --pseudo-anomalies-from$",
    ):
        JobData(data, "pump", input_spec=NEEDS, plan=CLIPS, seed=3, pseudo_anomaly_data=pseudo_anomaly_data)


# Which clips


@pytest.mark.parametrize("plan", [EVERY, CLIPS, replace(EVERY, hold_out=False)])
def test_every_clip_has_one_use(data: DataSet, plan: BatchPlan) -> None:
    found = job(data, plan=plan)
    uses = [found.training_ids.tolist(), found.hold_out_ids.tolist(), found.test_ids.tolist()]
    assert [len(ids) for ids in uses] == ([15, 9, 8] if plan.hold_out else [24, 0, 8])
    own = data.clips.filter(pl.col("machine_type") == "pump")
    assert sorted(uses[0] + uses[1] + uses[2]) == sorted(own["clip_id"])
    assert set(uses[2]) == set(own.filter(pl.col("split") == "test")["clip_id"])


def test_all_plans_have_one_hold_out_whose_recordings_the_seed_draws(data: DataSet) -> None:
    assert job(data).hold_out_ids.tolist() == job(data, plan=CLIPS).hold_out_ids.tolist()
    named = pl.col("clip_id").rank("ordinal").over("machine_type").floordiv(2).cast(pl.Utf8)
    recorded = replace(data, clips=data.clips.with_columns(recording=named))
    assert job(recorded).hold_out_ids.tolist() == job(recorded).hold_out_ids.tolist()
    assert job(recorded).hold_out_ids.tolist() != job(recorded, seed=4).hold_out_ids.tolist()


def test_too_few_clips_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    data = catalog.add(
        Workspace.from_environment(),
        "few",
        write_tiny(tmp_path / "clips", machine_types=["pump"], source_clips=8),
    )
    with pytest.raises(
        InputError, match=r"machine type 'pump' of data set 'few': 8 source-domain .* too few"
    ):
        job(data)


def test_facts_come_from_training_clips_alone(data: DataSet) -> None:
    own = data.clips.filter((pl.col("machine_type") == "pump") & (pl.col("split") == "train"))
    told = [[{"name": "spd", "value": f"{k:02d}"}, {"name": "mic", "value": "A"}] for k in range(24)]
    own = own.with_columns(pl.Series("attributes", told, dtype=data.clips.schema["attributes"]))
    rest = data.clips.join(own, on="clip_id", how="anti")
    found = job(replace(data, clips=pl.concat([own, rest])))
    assert len(found.training_ids) == 15
    expected = [
        row[0]["value"]
        for row in own.filter(pl.col("clip_id").is_in(found.training_ids.tolist()))["attributes"]
    ]
    assert dict(found.facts.attributes) == {
        "spd": tuple(sorted(expected))
    }  # mic has one value: it tells nothing
    assert found.facts.sections == ("00",)


# Every window


def validation(found: JobData) -> list[Any]:
    """Rows of the windows that training steps leave out."""
    epoch = Counter(row for step in range(found.steps_per_epoch) for row in content(found.batch(step)))
    return list((windows_of(found, found.training_ids) - epoch).elements())


def test_an_epoch_takes_every_training_window_once(data: DataSet) -> None:
    found = job(data)
    kept = Counter(validation(found))
    orders = []
    for epoch in range(2):
        steps = range(epoch * found.steps_per_epoch, (epoch + 1) * found.steps_per_epoch)
        rows = [row for step in steps for row in content(found.batch(step))]
        assert Counter(rows) + kept == windows_of(found, found.training_ids)
        orders.append(rows)
    assert orders[0] != orders[1]
    assert kept.total() == round(0.1 * (kept.total() + len(orders[0])))


def test_the_pass_for_the_back_end_takes_every_training_window_once(data: DataSet) -> None:
    found = job(data)
    batches = list(found.backend_batches())
    kept = Counter(validation(found))
    assert Counter(r for batch in batches for r in content(batch)) + kept == windows_of(
        found, found.training_ids
    )
    assert {batch.windows.shape[0] for batch in batches[:-1]} == {64}
    domains = torch.cat([batch.domain for batch in batches if batch.domain is not None])
    assert set(domains.tolist()) == {0, 1}


@pytest.mark.parametrize(("size", "dropped"), [(1, 0), (2, 1)])
def test_a_last_batch_of_one_row_is_left_out(data: DataSet, size: int, dropped: int) -> None:
    """Batch norm cannot take it."""
    windows = windows_of(job(data), job(data).training_ids).total()
    whole = job(data, plan=BatchPlan(windows if size == 1 else windows - 1, draw="every-window"))
    assert whole.steps_per_epoch == 1
    assert len(whole.batch(0).windows) == windows - dropped


def test_without_a_hold_out_batches_of_training_and_validation_windows_serve_as_clips(data: DataSet) -> None:
    found = job(data, plan=replace(EVERY, hold_out=False))
    batches = list(found.threshold_batches())
    rows = Counter(row for batch in batches for row in content(batch))
    assert rows == windows_of(found, found.training_ids)
    for batch in batches:
        assert batch.n_clips == 1
        assert (batch.clip == 0).all()
        assert batch.domain is batch.attributes is batch.row_keys is None


def test_every_window_has_no_rows_of_others(data: DataSet) -> None:
    for wrong in ({"pseudo_anomaly_share": 0.5}, {"target_rows": 1}, {"augmentations": ("noise",)}):
        plan = replace(EVERY, **wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="takes no pseudo_anomaly_share, target_rows or augmentations"):
            job(data, plan=plan)


# A window per clip


@pytest.mark.parametrize(
    ("target_rows", "pseudo_anomaly_share"), [(1, 0.5), (4, 0.5), (2, 0.0), (0, 0.25), (3, 0.75)]
)
def test_what_a_batch_is_made_of(data: DataSet, target_rows: int, pseudo_anomaly_share: float) -> None:
    found = job(
        data,
        plan=BatchPlan(
            16, "window-per-clip", pseudo_anomaly_share=pseudo_anomaly_share, target_rows=target_rows
        ),
    )
    source_rows = 16 - int(16 * pseudo_anomaly_share) - target_rows
    assert found.steps_per_epoch == -(-12 // source_rows)
    for step in range(3 * found.steps_per_epoch):
        batch = found.batch(step)
        assert batch.windows.shape == (16, 5, 8)
        assert batch.domain is not None
        assert batch.attributes is not None
        own = batch.machine == 0
        assert (~own).sum() == 16 * pseudo_anomaly_share
        assert batch.domain[own].sum() == target_rows
        assert (batch.section[own] == 0).all()
        assert (batch.section[~own] == UNKNOWN).all()
        assert (batch.attributes[own] != UNKNOWN).all()
        assert (batch.attributes[~own] == UNKNOWN).all()
        assert batch.n_clips == 16
        assert batch.clip.tolist() == list(range(16))


def test_own_rows_are_training_windows(data: DataSet) -> None:
    found = job(data, plan=CLIPS)
    allowed = windows_of(found, found.training_ids)
    for step in range(20):
        batch = found.batch(step)
        assert set(content(replace(batch, windows=batch.windows[batch.machine == 0]))) <= set(allowed)


def test_rows_of_others_are_their_training_windows(data: DataSet) -> None:
    found = job(data, plan=CLIPS)
    train = data.clips.filter(pl.col("split") == "train")
    seen = set()
    for machine, name in ((1, "fan"), (2, "valve")):
        shard = found._stored.mels.shards[machine]
        allowed = {
            shard.clip(clip_id)[start : start + 5].astype(np.float32).tobytes()
            for clip_id in train.filter(pl.col("machine_type") == name)["clip_id"]
            for start in range(len(shard.clip(clip_id)) - 4)
        }
        for step in range(20):
            batch = found.batch(step)
            rows = content(replace(batch, windows=batch.windows[batch.machine == machine]))
            assert set(rows) <= allowed
            seen |= {machine} if rows else set()
    assert seen == {1, 2}


def test_an_epoch_takes_every_source_clip(data: DataSet) -> None:
    found = job(data, plan=BatchPlan(8, "window-per-clip", pseudo_anomaly_share=0.25, target_rows=1))
    for epoch in range(3):
        steps = range(epoch * found.steps_per_epoch, (epoch + 1) * found.steps_per_epoch)
        clips = [clip for step in steps for clip in found._rows.of_step(step).clip]
        source = Counter(c for c in clips if found._clips.machine[c] == 0 and found._clips.domain[c] == 0)
        assert len(source) == 12
        assert set(source.values()) <= {1, 2}


def test_target_clips_take_turns(data: DataSet) -> None:
    found = job(data, plan=BatchPlan(8, "window-per-clip", target_rows=2))
    turns = [c for step in range(30) for c in found._rows.of_step(step).clip if found._clips.domain[c] == 1]
    assert set(Counter(turns).values()) == {20}
    assert len(set(turns)) == 3


def test_a_type_without_target_clips_fills_up_with_source_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    folder = write_tiny(tmp_path / "clips", machine_types=["pump"], target_clips=0)
    batch = job(
        catalog.add(Workspace.from_environment(), "no-target", folder),
        plan=BatchPlan(8, "window-per-clip", target_rows=2),
    ).batch(0)
    assert batch.domain is not None
    assert batch.domain.tolist() == [0] * 8


def test_windows_start_anywhere(data: DataSet) -> None:
    found = job(data, plan=CLIPS)
    starts: dict[int, set[int]] = {}
    for step in range(300):
        rows = found._rows.of_step(step)
        for start, clip in zip(rows.starts, rows.clip, strict=True):
            starts.setdefault(int(clip), set()).add(int(start - found._clips.start[clip]))
    room = found._clips.stop - found._clips.start - 5
    own = [clip for clip in starts if found._clips.machine[clip] == 0]
    assert all(min(starts[clip]) >= 0 and max(starts[clip]) <= room[clip] for clip in starts)
    assert any(max(starts[clip]) == room[clip] for clip in own)
    assert any(min(starts[clip]) == 0 for clip in own)


def test_pseudo_anomalies_need_a_second_machine_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    data = catalog.add(
        Workspace.from_environment(), "lonely", write_tiny(tmp_path / "clips", machine_types=["pump"])
    )
    with pytest.raises(
        InputError, match=r"data set 'lonely' has no machine type but 'pump'; .* with --pseudo-anomalies-from"
    ):
        job(data, plan=CLIPS)


def test_pseudo_anomalies_come_from_another_data_set(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny(tmp_path / "clips", machine_types=["pump"], seed=5)
    lonely = catalog.add(Workspace.from_environment(), "lonely", folder)
    found = JobData(lonely, "pump", input_spec=NEEDS, plan=CLIPS, seed=3, pseudo_anomaly_data=data)
    allowed = set()
    for machine in ("fan", "valve"):  # not the pump of the other data set
        other = JobData(data, machine, input_spec=NEEDS, plan=replace(EVERY, hold_out=False), seed=3)
        allowed |= set(windows_of(other, other.training_ids))
    drawn = [found.batch(step) for step in range(4)]
    rows = [
        row for batch in drawn for row in content(replace(batch, windows=batch.windows[batch.machine > 0]))
    ]
    assert len(rows) == 4 * 8
    assert set(rows) <= allowed
    with pytest.raises(InputError, match="data set 'lonely' has no machine type but 'pump'"):
        JobData(data, "pump", input_spec=NEEDS, plan=CLIPS, seed=3, pseudo_anomaly_data=lonely)


def test_a_stage_draws_the_same_clips_by_a_plan_of_its_own(data: DataSet) -> None:
    found = job(data, plan=CLIPS)
    other = found.with_plan(BatchPlan(6, draw="window-per-clip", target_rows=1))
    assert other.training_ids is found.training_ids
    batch = other.batch(0)
    assert batch.machine.tolist() == [0] * 6
    assert batch.domain is not None
    assert batch.domain.sum() == 1
    assert other.steps_per_epoch == -(-12 // 5)
    assert found.steps_per_epoch == -(-12 // 6)
    assert len(found.batch(0).machine) == 16
    assert found.with_plan(None) is found
    for plan in (EVERY, replace(CLIPS, hold_out=False)):
        with pytest.raises(ValueError, match="a stage's batch plan may differ in"):
            found.with_plan(plan)
    with pytest.raises(ValueError, match="a stage's batch plan may differ in"):
        job(data, plan=replace(CLIPS, pseudo_anomaly_share=0.0)).with_plan(CLIPS)


# Waveforms and augmentation

WITH_WAVEFORM = replace(NEEDS, mel=MelSpec(n_mels=16), window_frames=40, window_hop_frames=7, waveform=True)


AUGMENTED = replace(CLIPS, size=64, augmentations=TRANSFORMS)


def mel_of(batch: ClipBatch) -> torch.Tensor:
    assert batch.waveform is not None
    return log_mel_of_padded(batch.waveform, WITH_WAVEFORM.mel)


@pytest.mark.parametrize("names", [TRANSFORMS, ("noise", "identity")])
def test_a_batch_has_an_intact_target_row(data: DataSet, names: tuple[str, ...]) -> None:
    plan = replace(CLIPS, target_rows=1, augmentations=names)
    found, plain = (job(data, plan=one) for one in (plan, replace(plan, augmentations=())))
    drawn = []
    for step in range(12):
        batch, unchanged = found.batch(step), plain.batch(step)
        assert batch.domain is not None
        assert batch.augmentation is not None
        (row,) = torch.nonzero((batch.machine == 0) & (batch.domain == 1)).flatten()
        assert names[batch.augmentation[row]] == "identity"
        torch.testing.assert_close(batch.windows[row], unchanged.windows[row])
        drawn += [names[index] for index in batch.augmentation]
    assert set(drawn) == set(names)


@pytest.mark.parametrize("durations_s", [(0.6, 1.5), (0.05, 0.2)])
def test_waveform_and_spectrogram_of_a_row_are_of_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durations_s: tuple[float, float]
) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    data = catalog.add(
        Workspace.from_environment(), "lengths", write_tiny(tmp_path / "clips", durations_s=durations_s)
    )
    found = JobData(data, "fan", input_spec=WITH_WAVEFORM, plan=CLIPS, seed=3)
    for batch in (found.batch(0), *found.backend_batches(), *found.scoring_batches(found.test_ids)):
        assert batch.waveform is not None
        assert batch.waveform.shape == (len(batch.windows), 1024 + 39 * 160)
        torch.testing.assert_close(mel_of(batch), batch.windows, rtol=0, atol=0.04)  # float16 of up to 100 dB


def test_every_row_of_a_step_goes_through_a_transform_of_its_own(data: DataSet) -> None:
    plain = job(data, input_spec=WITH_WAVEFORM, plan=replace(AUGMENTED, augmentations=()))
    found = job(data, input_spec=WITH_WAVEFORM, plan=AUGMENTED)
    before, after = plain.batch(6), found.batch(6)
    assert before.augmentation is None
    assert after.augmentation is not None
    assert after.row_keys is not None
    assert set(after.augmentation.tolist()) == set(range(8))
    assert after.augmentation.bincount().tolist() == [8] * 8
    assert torch.equal(before.machine, after.machine)
    names = [TRANSFORMS[which] for which in after.augmentation.tolist()]
    pairs = zip(before.waveform, after.waveform, before.windows, after.windows, strict=True)  # type: ignore[arg-type]
    same = [
        (torch.equal(sound, new_sound), torch.equal(mel, new_mel)) for sound, new_sound, mel, new_mel in pairs
    ]
    for name in TRANSFORMS:
        sounds, mels = zip(
            *(pair for pair, of_row in zip(same, names, strict=True) if of_row == name), strict=True
        )
        assert all(sounds) == (name not in ON_WAVEFORM), name  # a fade may end before the window begins
        assert any(mels) == (name in ("identity", "fade")), name
    heard = [TRANSFORMS[which] in ON_WAVEFORM for which in after.augmentation.tolist()]
    torch.testing.assert_close(mel_of(after)[heard], after.windows[heard], rtol=0, atol=0.04)


def test_the_contexts_of_a_transform_are_of_the_clips_of_its_rows(data: DataSet) -> None:
    found = job(data, input_spec=WITH_WAVEFORM, plan=AUGMENTED)
    raw, rows = found.raw_batch(3), found._rows.of_step(3)
    clips, least = found._clips, 39 * 160
    assert raw.contexts.keys() == ON_WAVEFORM
    for group in raw.groups:
        for slot, row in enumerate(group.sources.tolist() if group.samples else []):
            which = rows.clip[row]
            clip = found._stored.waveforms.shards[clips.machine[which]].clip(int(clips.clip_id[which]))
            clip = np.resize(clip, max(len(clip), least))
            place = (int(group.first[slot]) + np.arange(group.samples)) % len(clip)
            assert np.array_equal(raw.contexts[group.transform][slot], clip[place])


def shapes(raw: RawBatch) -> list[torch.Size]:
    return [tensor.shape for tensor in raw.tensors()]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_no_shape_of_a_raw_batch_depends_on_what_is_drawn(data: DataSet, size: int) -> None:
    found = job(data, input_spec=WITH_WAVEFORM, plan=AUGMENTED)
    of_steps = [
        [shapes(found.raw_batch(step, rank=rank, size=size)) for rank in range(size)] for step in range(6)
    ]
    assert all(of_step == of_steps[0] for of_step in of_steps)
    own = {found.raw_batch(step, rank=size - 1, size=size).own_rows for step in range(6)}
    assert own == {32 // size}


def test_the_preparation_of_transforms_compiles_whole(data: DataSet) -> None:
    spec = replace(WITH_WAVEFORM, standardize=True)
    found = job(data, input_spec=spec, plan=replace(AUGMENTED, size=16))
    compiled = torch.compile(found.preparation, backend="aot_eager", fullgraph=True)
    for step in (0, 1):
        raw = found.raw_batch(step)
        with torch.compiler.set_stance("fail_on_recompile" if step else "default"):
            one, other = compiled(raw), found.preparation(raw)
        torch.testing.assert_close(one.windows, other.windows, rtol=1e-3, atol=0.05)
        torch.testing.assert_close(one.waveform, other.waveform, rtol=1e-3, atol=1e-4)


def test_what_is_masked_is_the_mean_of_the_standardized_window(data: DataSet) -> None:
    input_spec = replace(WITH_WAVEFORM, standardize=True, waveform=False)
    found = job(data, input_spec=input_spec, plan=replace(AUGMENTED, augmentations=("time_mask",)))
    batch = found.batch(0)
    assert batch.waveform is None
    assert ((batch.windows == 0).all(dim=2).sum(dim=1) > 0).all()


def test_only_training_steps_are_augmented(data: DataSet) -> None:
    found = job(data, input_spec=WITH_WAVEFORM, plan=AUGMENTED)
    plain = job(data, input_spec=WITH_WAVEFORM, plan=replace(AUGMENTED, augmentations=()))
    for one, other in zip(found.backend_batches(), plain.backend_batches(), strict=True):
        assert one.augmentation is None
        assert torch.equal(one.windows, other.windows)


def test_the_processes_share_augmented_rows_too(data: DataSet) -> None:
    found = job(data, input_spec=WITH_WAVEFORM, plan=AUGMENTED)
    whole, parts = found.batch(5), [found.batch(5, rank=rank, size=3) for rank in range(3)]
    for rank, part in enumerate(parts):
        torch.testing.assert_close(part.windows, whole.windows[rank::3], rtol=0, atol=1e-4)
        assert torch.equal(part.augmentation, whole.augmentation[rank::3])  # type: ignore[index,arg-type]


def test_a_process_may_have_no_row(data: DataSet) -> None:
    found = job(data, plan=BatchPlan(2, draw="window-per-clip", augmentations=TRANSFORMS))
    assert len(found.batch(0, rank=2, size=3).windows) == 0


def test_an_unknown_augmentation_is_refused(data: DataSet) -> None:
    with pytest.raises(InputError, match="no augmentation 'nois'; did you mean 'noise'"):
        job(data, plan=replace(CLIPS, augmentations=("nois",)))


def test_the_back_end_gets_the_scoring_windows_of_training_clips(data: DataSet) -> None:
    found = job(data, plan=CLIPS, input_spec=replace(NEEDS, window_hop_frames=4))
    seen: Counter[bytes] = Counter()
    clips = 0
    for batch in found.backend_batches():
        assert batch.domain is not None
        assert (batch.machine == 0).all()
        seen.update(content(batch))
        clips += batch.n_clips
    scored = Counter(row for batch in found.scoring_batches(found.training_ids) for row in content(batch))
    assert seen == scored
    assert clips == len(found.training_ids)


# Supplemental clips, the far microphone, further spectrograms, pseudo-labels


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    base = tmp_path_factory.mktemp("pairs")
    folder = write_tiny(base / "clips", machine_types=("fan", "pump"), supplemental_clips=3, channels=2)
    return catalog.add(Workspace.from_home(base / "home"), "pairs", folder, channels="near")


SUPPLEMENTED = BatchPlan(16, draw="window-per-clip", target_rows=2, supplemental_rows=5)


def test_supplemental_rows_are_of_supplemental_clips_alone(pairs: DataSet) -> None:
    found = job(pairs, plan=SUPPLEMENTED)
    ids = pairs.clips.filter(of("pump", "supplemental"))["clip_id"]
    noise, normal = windows_of(found, ids), windows_of(found, found.training_ids)
    seen = set()
    for step in range(20):
        batch = found.batch(step)
        assert batch.supplemental is not None
        assert batch.group is not None
        assert batch.supplemental.sum() == 5
        assert ((batch.group == UNKNOWN) == batch.supplemental).all()
        rows = content(replace(batch, windows=batch.windows[batch.supplemental]))
        seen |= set(rows)
        assert set(rows) <= set(noise)
        assert set(content(replace(batch, windows=batch.windows[~batch.supplemental]))) <= set(normal)
    assert len(seen) > 5
    assert found.facts == job(pairs, plan=replace(SUPPLEMENTED, supplemental_rows=0)).facts
    assert sum(batch.n_clips for batch in found.backend_batches()) == len(found.training_ids)
    everything = of_data_set(pairs, plan=SUPPLEMENTED)
    assert {int(m) for step in range(20) for m in everything.batch(step).machine} == {0, 1}


def test_a_supplemental_clip_with_the_content_of_a_test_clip_is_refused(pairs: DataSet) -> None:
    leaky = with_content_of(pairs, of("pump", "supplemental"), of("pump", "test"))
    with pytest.raises(InputError, match=r"data leak: 1 training clips of pump"):
        job(leaky, plan=SUPPLEMENTED)
    assert job(leaky, plan=EVERY).training_ids.size  # takes none


def test_the_far_microphone_comes_with_the_near_one(pairs: DataSet) -> None:
    spec = replace(NEEDS, waveform=True, second_channel=True)
    found = job(pairs, plan=CLIPS, input_spec=spec)
    for batch in (found.batch(0), next(iter(found.scoring_batches(found.test_ids)))):
        assert batch.waveform is not None
        assert batch.second_waveform is not None
        rest = batch.second_waveform - 0.5 * batch.waveform
        assert 0.015 < float(rest.std()) < 0.025  # the noise of the far microphone


def test_further_spectrograms_are_of_the_same_samples(pairs: DataSet) -> None:
    features = {"fine": MelSpec(hop_samples=128, n_mels=4), "wide": MelSpec(hop_samples=1024, n_mels=6)}
    spec = replace(NEEDS, waveform=True, features=features)
    found = job(pairs, plan=CLIPS, input_spec=spec)
    whole = job(pairs, plan=CLIPS, input_spec=replace(spec, window_frames=None))
    for batch in (found.batch(0), *found.scoring_batches(found.test_ids), *whole.backend_batches()):
        length = (batch.windows.shape[1] - 1) * 512
        assert batch.waveform is not None
        for name, mel in features.items():
            assert batch.features[name].shape == (
                len(batch.windows),
                1 + length // mel.hop_samples,
                mel.n_mels,
            )
        fine = log_mel_of_padded(batch.waveform, features["fine"])
        torch.testing.assert_close(batch.features["fine"], fine, atol=0.1, rtol=1e-3)
    z = job(pairs, plan=CLIPS, input_spec=replace(spec, standardize=True))
    frames = torch.cat([batch.features["fine"].flatten(0, 1) for batch in z.backend_batches()])
    assert frames.mean(0).abs().max() < 0.1
    assert (frames.std(0) - 1).abs().max() < 0.1
    assert z.feature_standardizations.keys() == features.keys()


def test_augmentations_do_not_go_with_further_inputs(pairs: DataSet) -> None:
    for spec in (replace(NEEDS, second_channel=True), replace(NEEDS, features={"fine": MelSpec()})):
        with pytest.raises(ValueError, match="augmentations change windows and waveform alone"):
            job(pairs, plan=replace(CLIPS, augmentations=TRANSFORMS), input_spec=spec)


def test_pseudo_labels_follow_the_clips(pairs: DataSet) -> None:
    found = of_data_set(pairs, plan=SUPPLEMENTED)
    rows = [row for batch in found.pseudo_label_batches() for row in batch.machine[batch.clip.diff(
        prepend=torch.tensor([-1])) > 0]]  # fmt: skip
    labels = np.arange(len(rows))
    given = found.with_pseudo_labels(labels)
    assert found.batch(0).pseudo_label is None
    trained = np.flatnonzero(found._rows.is_trained)
    for step in range(5):
        batch, clip = given.batch(step), found._rows.of_step(step).clip
        expected = [int(np.flatnonzero(trained == c)[0]) if c in trained else UNKNOWN for c in clip]
        assert batch.pseudo_label is not None
        assert batch.pseudo_label.tolist() == expected
    with pytest.raises(InputError, match=r"returns labels of shape \(3,\) for \d+ training clips"):
        found.with_pseudo_labels(labels[:3])
    with pytest.raises(ValueError, match="pseudo-labels needs a batch plan that draws 'window-per-clip'"):
        next(job(pairs).pseudo_label_batches())


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (
            BatchPlan(16, "window-per-clip", target_rows=16),
            "batches of 16 rows with 16 of target clips, 0 of",
        ),
        (BatchPlan(16, "window-per-clip", supplemental_rows=16), "and 16 of supplemental clips have none"),
        (BatchPlan(16, "window-per-clip", supplemental_rows=17), "and 17 of supplemental clips have none"),
        (replace(CLIPS, target_rows=8), "with 8 of target clips, 8 of other machine types and 0 of"),
    ],
)
def test_a_plan_without_a_source_row_is_refused(pairs: DataSet, plan: BatchPlan, told: str) -> None:
    with pytest.raises(InputError, match=f"{told}.* left for source clips; choose larger batches"):
        job(pairs, plan=plan)
    more = job(pairs, plan=replace(plan, size=2 * plan.size + 2))
    domain, supplemental = more.batch(0).domain, more.batch(0).supplemental
    assert domain is not None
    assert ((domain == 0) & ~(torch.zeros(len(domain)) > 0 if supplemental is None else supplemental)).any()


# One training for all machine types of a data set

ALL = BatchPlan(16, draw="window-per-clip", target_rows=2)
TYPES = ("fan", "pump", "valve")


def of_data_set(data: DataSet, machine_type: str = "pump", **more: Any) -> JobData:
    arguments: dict[str, Any] = {"input_spec": NEEDS, "plan": ALL, "seed": 3} | more
    return JobData(data, machine_type, scope="data set", **arguments)


@pytest.mark.parametrize("plan", [ALL, EVERY])
def test_a_data_set_is_trained_on_without_any_hold_out(data: DataSet, plan: BatchPlan) -> None:
    found = of_data_set(data, plan=plan)
    allowed: Counter[bytes] = Counter()
    for index, name in enumerate(TYPES):
        alone = JobData(data, name, input_spec=NEEDS, plan=EVERY, seed=3)
        allowed.update(windows_of(alone, alone.training_ids))
        assert of_data_set(data, name).hold_out_ids.tolist() == alone.hold_out_ids.tolist()
        assert found.facts.machine_types[index] == name
    machines = set()
    for step in range(40):
        batch = found.batch(step)
        assert set(content(batch)) <= set(allowed)
        machines |= set(batch.machine.tolist())
        assert batch.attributes is not None
        assert (batch.section == 0).all()
        assert (batch.attributes != UNKNOWN).all()
    assert machines == {0, 1, 2}


@pytest.mark.parametrize("hold_out", [True, "cross-fit"])
def test_a_small_type_of_a_data_set_does_not_block_the_others(data: DataSet, hold_out: HoldOut) -> None:
    plan = replace(ALL, hold_out=hold_out)
    is_dropped = of("valve", "train") & (pl.col("domain") == "source")
    few = data.clips.filter(is_dropped)["clip_id"][5:]
    small = replace(data, clips=data.clips.filter(~pl.col("clip_id").is_in(few.implode())))
    fan, pump = (of_data_set(small, name, plan=plan) for name in ("fan", "pump"))
    assert same(fan.batch(4), pump.batch(4))
    valve = fan._clips.machine == TYPES.index("valve")
    expected = small.clips.filter(of("valve", "train"))["clip_id"].sort()
    assert fan._clips.clip_id[valve].tolist() == expected.to_list()
    assert len(fan.hold_out_ids) == len(of_data_set(data, "fan", plan=plan).hold_out_ids)
    with pytest.raises(InputError, match=r"'valve' of data set 'tiny': 5 source-domain .* too few"):
        of_data_set(small, "valve", plan=plan)


@pytest.mark.parametrize("scope", ["machine", "data set"])
@pytest.mark.parametrize("hold_out", [True, False, "cross-fit"])
def test_pseudo_labels_are_found_from_embeddings(
    data: DataSet, scope: Scope, hold_out: HoldOut, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asdbench.data.clip_windows.SCORING_FRAMES", 200)
    spec = replace(NEEDS, encoder=EncoderSpec(tiny_encoder.ID))
    plan = replace(ALL, hold_out=hold_out)
    with tiny_encoder.installed(data.workspace):
        found = JobData(data, "pump", input_spec=spec, plan=plan, seed=3, scope=scope)
        seen = []
        for batch in found.pseudo_label_batches():
            assert batch.encoded is not None
            assert len(batch.encoded) == batch.n_clips
            seen += [tokens.half().numpy().tobytes() for tokens in batch.encoded]
        trained = np.flatnonzero(found._rows.is_trained)
        machines, ids = found._clips.machine[trained], found._clips.clip_id[trained]
        shards = [embeddings(data, name, spec.encoder) for name in found.facts.machine_types]  # type: ignore[arg-type]
        assert len({*machines.tolist()}) == (3 if scope == "data set" else 1)
        assert seen == [shards[m].tokens(int(i)).tobytes() for m, i in zip(machines, ids, strict=True)]


def test_every_type_of_a_data_set_has_the_same_training_batches(data: DataSet) -> None:
    batches = [of_data_set(data, name).batch(4) for name in TYPES]
    assert same(batches[0], batches[1])
    assert same(batches[0], batches[2])


def test_groups_are_the_joint_labels_of_training_clips(data: DataSet) -> None:
    found = of_data_set(data)
    train = data.clips.filter((pl.col("split") == "train") & ~pl.col("clip_id").is_in(
        [int(i) for name in TYPES for i in of_data_set(data, name).hold_out_ids]))  # fmt: skip
    labels = {
        (row["machine_type"], row["section"], row["domain"], str(row["attributes"]))
        for row in train.iter_rows(named=True)
    }
    assert found.facts.groups == len(labels)
    seen: dict[int, set[tuple[int, ...]]] = {}
    for step in range(60):
        batch = found.batch(step)
        assert batch.group is not None
        assert batch.domain is not None
        assert batch.attributes is not None
        columns = [batch.machine, batch.section, batch.domain, *batch.attributes.T]
        for group, label in zip(batch.group.tolist(), torch.stack(columns, dim=1).tolist(), strict=True):
            seen.setdefault(group, set()).add(tuple(label))
    assert sorted(seen) == list(range(found.facts.groups))
    assert all(len(labels) == 1 for labels in seen.values())
    assert len({label for labels in seen.values() for label in labels}) == found.facts.groups


def test_groups_of_a_machine_leave_out_pseudo_anomalies(data: DataSet) -> None:
    found = job(data, plan=CLIPS)
    batch = found.batch(0)
    assert batch.group is not None
    assert found.facts.machine_types == ("pump",)
    assert ((batch.group == UNKNOWN) == (batch.machine != 0)).all()
    assert batch.group.max() < found.facts.groups < of_data_set(data).facts.groups


@pytest.mark.parametrize("plan", [ALL, EVERY])
def test_the_back_end_and_scores_of_a_data_set_are_of_one_type(data: DataSet, plan: BatchPlan) -> None:
    found, alone = of_data_set(data, plan=plan), job(data, plan=replace(plan))
    fitted = [row for batch in found.backend_batches() for row in content(batch)]
    if plan is ALL:
        assert sorted(fitted) == sorted(row for batch in alone.backend_batches() for row in content(batch))
    assert set(fitted) <= set(windows_of(alone, alone.training_ids))
    assert {int(m) for batch in found.backend_batches() for m in batch.machine} == {1}
    ours, theirs = found.scoring_batches(found.test_ids), alone.scoring_batches(found.test_ids)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.windows, other.windows)
        assert set(one.machine.tolist()) == {1}
        assert one.group is one.domain is one.attributes is None


def test_each_type_of_a_data_set_is_standardized_with_its_own_statistics(data: DataSet) -> None:
    spec = replace(NEEDS, standardize=True)
    found = of_data_set(data, input_spec=spec)
    raw = of_data_set(data)
    for step in range(3):
        z, db = found.batch(step), raw.batch(step)
        for index, name in enumerate(TYPES):
            statistics = JobData(data, name, input_spec=spec, plan=EVERY, seed=3).standardization
            assert statistics is not None
            rows = z.machine == index
            torch.testing.assert_close(z.windows[rows], statistics.apply_(db.windows[rows].clone()))


@pytest.mark.parametrize("tested", ["pump", "valve"])
def test_a_leak_of_any_type_of_a_data_set_is_refused(data: DataSet, tested: str) -> None:
    leaky = with_content_of(data, of("valve", "train"), of(tested, "test"))
    with pytest.raises(InputError, match=r"data leak: 1 training clips of valve in data set 'tiny' have"):
        of_data_set(leaky)


def test_a_data_set_has_no_pseudo_anomalies(data: DataSet) -> None:
    with pytest.raises(ValueError, match=r"pseudo_anomaly_share=0\.5 does not go with the scope 'data set'"):
        of_data_set(data, plan=CLIPS)


# Whole clips


def test_a_row_can_be_a_whole_clip_and_a_batch_has_clips_of_one_length(
    data: DataSet,
) -> None:
    shard_of = job(data)._stored.mels.shards[0]
    spec = replace(NEEDS, window_frames=None, waveform=True)
    found = job(data, plan=CLIPS, input_spec=spec)
    ids = np.repeat(found.test_ids, 2)  # neighbors of equal length
    batches = list(found.scoring_batches(ids))
    assert [batch.n_clips for batch in batches] == [2] * len(found.test_ids)
    for clip_id, batch in zip(found.test_ids, batches, strict=True):
        frames = np.array(shard_of.clip(int(clip_id)))
        assert batch.clip.tolist() == [0, 1]
        assert torch.equal(batch.windows[1], torch.from_numpy(frames).float())
        assert batch.waveform is not None
        mel = log_mel_of_padded(batch.waveform[:1], spec.mel)
        torch.testing.assert_close(mel[0], batch.windows[0], atol=0.1, rtol=1e-3)
    fitted = [row for batch in found.backend_batches() for row in content(batch)]
    scored = [row for batch in found.scoring_batches(found.training_ids) for row in content(batch)]
    assert sorted(fitted) == sorted(scored)
    assert len(fitted) == len(found.training_ids)


@pytest.mark.parametrize("plan", [EVERY, CLIPS])
def test_training_steps_need_windows(data: DataSet, plan: BatchPlan) -> None:
    found = job(data, plan=plan, input_spec=replace(NEEDS, window_frames=None))
    with pytest.raises(ValueError, match=r"need windows; set InputSpec\.window_frames to a number"):
        found.batch(0)


# Randomness


@pytest.mark.parametrize("plan", [EVERY, CLIPS])
def test_a_step_has_the_same_rows_whenever_it_is_asked_for(data: DataSet, plan: BatchPlan) -> None:
    one, other = job(data, plan=plan), job(data, plan=plan)
    last = 2 * one.steps_per_epoch + 1
    for step in (0, 1, last, 0):
        assert same(one.batch(step), other.batch(step))
    assert not same(one.batch(0), job(data, plan=plan, seed=4).batch(0))
    assert not same(one.batch(0), one.batch(one.steps_per_epoch))


@pytest.mark.parametrize("plan", [EVERY, CLIPS])
@pytest.mark.parametrize("size", [2, 3])
def test_the_processes_share_the_rows_of_a_step(data: DataSet, plan: BatchPlan, size: int) -> None:
    found = job(data, plan=plan)
    for step in (0, found.steps_per_epoch - 1):
        whole = found.batch(step)
        parts = [found.batch(step, rank=rank, size=size) for rank in range(size)]
        for name in ("windows", "machine", "section", "domain", "attributes", "row_keys"):
            joined = torch.empty_like(vars(whole)[name])
            for rank, part in enumerate(parts):
                joined[rank::size] = vars(part)[name]
            assert torch.equal(joined, vars(whole)[name])


def test_row_keys_differ(data: DataSet) -> None:
    found = job(data, plan=CLIPS)
    keys = torch.cat([keys for step in range(10) if (keys := found.batch(step).row_keys) is not None])
    assert len(keys.unique()) == 160


# Scoring


def test_scoring_batches_hold_every_window_and_no_hint(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asdbench.data.clip_windows.SCORING_FRAMES", 200)
    found = job(data, input_spec=replace(NEEDS, window_hop_frames=3))
    ids = [*found.test_ids, *found.hold_out_ids]
    scored = []
    batches = list(found.scoring_batches(ids))
    assert len(batches) > 3
    for batch in batches:
        assert batch.domain is batch.attributes is batch.row_keys is None
        assert (batch.section == 0).all()
        assert (batch.machine == 0).all()
        assert batch.clip.unique().tolist() == list(range(batch.n_clips))
        scored += [batch.windows[batch.clip == clip] for clip in range(batch.n_clips)]
    assert len(scored) == len(ids)
    for clip_id, windows in zip(ids, scored, strict=True):
        frames = found._stored.mels.shards[0].clip(int(clip_id)).astype(np.float32)
        starts = window_starts(len(frames), 5, 3)
        assert np.array_equal(windows.numpy(), np.stack([frames[start : start + 5] for start in starts]))


def test_a_section_that_training_lacks_is_unknown(data: DataSet) -> None:
    test = pl.col("split") == "test"
    clips = data.clips.with_columns(section=pl.when(test).then(pl.lit("05")).otherwise(pl.col("section")))
    found = job(replace(data, clips=clips))
    assert all((batch.section == UNKNOWN).all() for batch in found.scoring_batches(found.test_ids))


def test_a_short_clip_fills_a_window(data: DataSet) -> None:
    input_spec = InputSpec(MelSpec(n_mels=8), window_frames=256, window_hop_frames=128)
    found = job(data, input_spec=input_spec)
    (batch,) = found.scoring_batches(found.test_ids)
    assert batch.windows.shape == (8, 256, 8)  # 1.5 s at most, a window each


# Standardization


@pytest.mark.parametrize("plan", [EVERY, CLIPS])
def test_standardized_training_frames_have_zero_mean_and_unit_deviation(
    data: DataSet, plan: BatchPlan
) -> None:
    found = job(data, input_spec=replace(NEEDS, standardize=True, window_frames=1), plan=plan)
    windows = torch.cat([batch.windows for batch in found.scoring_batches(found.training_ids)]).flatten(0, 1)
    torch.testing.assert_close(windows.mean(0), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(windows.std(0), torch.ones(8), atol=1e-2, rtol=0)


def test_every_row_is_standardized_with_the_jobs_own_statistics(data: DataSet) -> None:
    plain, scored = job(data, plan=CLIPS), job(data, plan=CLIPS, input_spec=replace(NEEDS, standardize=True))
    found = scored.standardization
    assert found is not None
    for make in (lambda d: d.batch(0), lambda d: next(d.scoring_batches(d.test_ids))):
        expected = (make(plain).windows - found.mean) / found.deviation
        torch.testing.assert_close(make(scored).windows, expected)


def test_a_constant_bin_is_not_divided_by_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    data = catalog.add(
        Workspace.from_environment(), "tiny", write_tiny(tmp_path / "clips", machine_types=["pump"])
    )
    input_spec = replace(NEEDS, standardize=True, mel=replace(NEEDS.mel, floor=1e9))
    batch = job(data, input_spec=input_spec).batch(0)
    assert (batch.windows == 0).all()


def test_features_are_those_of_the_file(data: DataSet) -> None:
    found = job(data)
    clip_id = int(found.test_ids[0])
    path = data.clips.filter(pl.col("clip_id") == clip_id)["path"].item()
    frames = log_mel(torch.from_numpy(soundfile.read(data.root / path, dtype="float32")[0]), NEEDS.mel)
    (batch,) = found.scoring_batches([clip_id])
    torch.testing.assert_close(batch.windows[:, 0], frames[: len(batch.windows)], rtol=1e-3, atol=1e-2)
