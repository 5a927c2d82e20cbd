import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
import soxr
import torch

from asdbench.data import clip_windows, digests, feature_store
from asdbench.data.audio import read_clip
from asdbench.data.feature_store import FeatureSpec
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.errors import InfrastructureError, InputError
from asdbench.features.mel import log_mel
from asdbench.io.workspace import Workspace
from asdbench.spec import SAMPLE_RATE_HZ, MelSpec
from asdbench.testing import write_tiny

SPEC = MelSpec(hop_samples=512, n_mels=16)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return catalog.add(
        Workspace.from_environment(),
        "tiny",
        write_tiny(tmp_path / "clips", source_clips=4, target_clips=1, test_clips_per_cell=1),
    )


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("this is built already")


def files(home: Path) -> dict[str, int]:
    paths = [path for path in (home / "store").glob("*") if path.suffix != ".digest"]
    return {path.name: path.stat().st_mtime_ns for path in paths}


def spec_of(data: DataSet, machine_type: str, mel: MelSpec = SPEC) -> FeatureSpec:
    return FeatureSpec(data.name, machine_type, mel, min_frames=1)


def rows_of(data: DataSet, machine_type: str) -> pl.DataFrame:
    return data.clips.filter(pl.col("machine_type") == machine_type)


def test_a_stored_waveform_is_the_file_to_the_bit(data: DataSet) -> None:
    shard = feature_store.waveforms(data, "fan")
    assert shard.rows.dtype == np.int16
    clips = rows_of(data, "fan")
    assert sorted(shard.clip_ids.tolist()) == sorted(clips["clip_id"])
    for clip_id, path in clips.select("clip_id", "path").iter_rows():
        assert np.array_equal(shard.clip(clip_id), soundfile.read(data.root / path, dtype="int16")[0])
    assert len(shard.rows) == clips["samples"].sum()


@pytest.mark.parametrize("min_frames", [1, 40])
def test_a_stored_spectrogram_is_the_computed_one(data: DataSet, min_frames: int) -> None:
    shard = feature_store.mels(data, "valve", SPEC, min_frames=min_frames)
    assert shard.rows.dtype == np.float16
    assert shard.rows.shape[1] == 16
    for clip_id, path in rows_of(data, "valve").select("clip_id", "path").iter_rows():
        wave = torch.from_numpy(soundfile.read(data.root / path, dtype="float32")[0])
        expected = log_mel(wave, SPEC, min_frames=min_frames)
        assert len(shard.clip(clip_id)) == len(expected) >= min_frames
        step = 2.0**-11 * expected.abs() + 1e-5  # of float16, and rounding in float32
        assert (np.abs(shard.clip(clip_id).astype(np.float32) - expected.numpy()) <= step.numpy()).all()
        start, stop = shard.span(clip_id)
        assert stop - start == len(expected)


def test_batches_of_a_device_store_what_clips_give_one_by_one(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.array(feature_store.mels(data, "valve", SPEC, min_frames=1).rows)
    feature_store.mel_path(data, "valve", SPEC, min_frames=1).unlink()
    honest, sizes = clip_windows.stored_mels, list[int]()

    def counting(clips: Any, *args: Any, **options: Any) -> list[torch.Tensor]:
        sizes.append(len(clips))
        if len(clips) > 3:
            raise torch.OutOfMemoryError
        return honest(clips, *args, **options)

    monkeypatch.setattr(clip_windows, "stored_mels", counting)
    feature_store.build(data, spec_of(data, "valve"), device="cpu:0")  # in batches as on a GPU
    found = np.array(feature_store.mels(data, "valve", SPEC, min_frames=1).rows)
    steps = np.abs(found.view(np.int16).astype(int) - expected.view(np.int16))  # of float16
    assert steps.max() <= 1
    assert (steps == 0).mean() > 0.99
    assert len(set(np.diff(feature_store.waveforms(data, "valve").starts))) > 3  # lengths
    assert max(sizes) > 3


def test_a_gpu_is_for_many_hours_of_spectrograms(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not feature_store.gains_from_gpu(data, spec_of(data, "fan"))
    monkeypatch.setattr(feature_store, "_GPU_S", rows_of(data, "fan")["duration_s"].sum() - 0.5)
    assert feature_store.gains_from_gpu(data, spec_of(data, "fan"))


def test_the_rows_are_mapped_and_cannot_be_written(data: DataSet) -> None:
    shard = feature_store.mels(data, "fan", SPEC, min_frames=1)
    with pytest.raises(ValueError, match="read-only"):
        shard.rows[0] = 0


def test_what_is_there_is_not_built_again(data: DataSet, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for machine_type in data.machine_types:
        feature_store.mels(data, machine_type, SPEC, min_frames=1)
    before = files(home)
    assert len(before) == 4
    monkeypatch.setattr(feature_store, "_build", refuse)
    again = catalog.load(Workspace.from_environment(), "tiny")
    for machine_type in data.machine_types:
        feature_store.waveforms(again, machine_type)
        feature_store.mels(again, machine_type, SPEC, min_frames=1)
    assert files(home) == before


def test_parameters_have_files_of_their_own(data: DataSet) -> None:
    paths = {
        feature_store.mel_path(data, "fan", spec, min_frames=least)
        for spec in (SPEC, MelSpec(), MelSpec(floor=1e-9), MelSpec(f_max_hz=7000.0), MelSpec(f_min_hz=10.0))
        for least in (1, 256)
    }
    assert len(paths) == 10
    assert feature_store.mel_path(data, "fan", SPEC, min_frames=1) != feature_store.mel_path(
        data, "valve", SPEC, min_frames=1
    )


def test_the_channel_policy_has_files_of_its_own(data: DataSet) -> None:
    near = catalog.add(Workspace.from_environment(), "near", data.root, channels="near")
    assert feature_store.waveform_path(near, "fan") != feature_store.waveform_path(data, "fan")


def test_a_changed_recording_rebuilds_its_machine_type_alone(data: DataSet, home: Path) -> None:
    for machine_type in data.machine_types:
        feature_store.mels(data, machine_type, SPEC, min_frames=1)
    before = files(home)
    path = data.root / rows_of(data, "fan")["path"][0]
    wave, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, wave[::-1], rate)
    changed = catalog.add(Workspace.from_environment(), "tiny", data.root)
    assert feature_store.waveform_path(changed, "valve") == feature_store.waveform_path(data, "valve")
    for machine_type in data.machine_types:
        feature_store.mels(changed, machine_type, SPEC, min_frames=1)
    new = {name for name, mtime in files(home).items() if before.get(name) != mtime}
    assert len(new) == 2
    assert all(name.startswith("fan-") for name in new)


def test_a_renamed_recording_rebuilds_nothing(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    feature_store.mels(data, "fan", SPEC, min_frames=1)
    unlabeled = rows_of(data, "fan").filter(pl.col("split") == "test")["path"][0]
    (data.root / unlabeled).rename(data.root / "fan/test/section_00_7777.wav")
    (data.root / "fan/attributes_00.csv").unlink()
    renamed = catalog.add(Workspace.from_environment(), "tiny", data.root)
    monkeypatch.setattr(feature_store, "_build", refuse)
    feature_store.mels(renamed, "fan", SPEC, min_frames=1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize(
    "build", [feature_store.waveforms, lambda *a: feature_store.mels(*a, SPEC, min_frames=1)]
)
def test_an_interruption_leaves_no_file(
    data: DataSet,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    build: Callable[..., feature_store.Shard],
) -> None:
    calls = 0

    def fail(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise error("enough")
        return read_clip(*args, **kwargs)

    monkeypatch.setattr(feature_store, "read_clip", fail)
    with pytest.raises(error):
        build(data, "fan")
    assert files(home) == {}
    monkeypatch.setattr(feature_store, "read_clip", read_clip)
    assert len(build(data, "fan").clip_ids) == 9


def test_an_interrupted_writing_leaves_no_file(
    data: DataSet, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feature_store.pa, "record_batch", fail)
        with pytest.raises(KeyboardInterrupt):
            feature_store.waveforms(data, "fan")
    assert files(home) == {}


@pytest.mark.parametrize(
    "change", [lambda p: p.unlink(), lambda p: p.write_bytes(b""), lambda p: os.utime(p, (1, 1))]
)
def test_a_recording_that_vanished_or_changed_is_named(data: DataSet, change: Callable[[Path], None]) -> None:
    path = rows_of(data, "fan")["path"][3]
    change(data.root / path)
    with pytest.raises(
        InputError, match=rf"1 recordings of data set 'tiny' .* {path}\); run 'asdbench data add tiny"
    ):
        feature_store.mels(data, "fan", SPEC, min_frames=1)
    feature_store.mels(data, "valve", SPEC, min_frames=1)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000])
def test_lengths_after_resampling_are_foretold(rate_hz: int) -> None:
    lengths = [
        *range(rate_hz // 1000, rate_hz // 1000 + 40),
        *np.random.default_rng(rate_hz).integers(50, 40_000, 40),
    ]
    clips = pl.DataFrame(
        {"samples": lengths, "sample_rate_hz": [rate_hz] * len(lengths), "channels": [2] * len(lengths)}
    )
    found = [
        len(soxr.resample(np.zeros(n, np.float32), rate_hz, SAMPLE_RATE_HZ, quality="HQ")) for n in lengths
    ]
    assert feature_store.kept_samples(clips, "near").tolist() == found
    assert feature_store.kept_samples(clips, "both").tolist() == [2 * samples for samples in found]


def test_both_microphones_are_stored_one_after_the_other(data: DataSet) -> None:
    path = data.root / "fan" / "train" / "section_00_source_train_normal_0000_spd_1_mic_A.wav"
    near = soundfile.read(path, dtype="int16")[0]
    soundfile.write(path, np.stack([near, near // 2], axis=1), SAMPLE_RATE_HZ)
    both = catalog.add(Workspace.from_environment(), "both", data.root, channels="both")
    clip_id = rows_of(both, "fan").filter(channels=2)["clip_id"][0]
    foretold = feature_store.bytes_to_build(both, [spec_of(both, "fan")])
    shard = feature_store.mels(both, "fan", SPEC, min_frames=1)
    wave = feature_store.waveforms(both, "fan").clip(clip_id)
    assert np.array_equal(wave, np.concatenate([near, near // 2]))
    assert len(shard.clip(clip_id)) == 1 + 2 * len(near) // SPEC.hop_samples
    assert foretold == 2 * (shard.rows.size + len(feature_store.waveforms(both, "fan").rows))


@pytest.mark.parametrize(
    ("rate_hz", "channels"), [(44_100, 1), (48_000, 2), (11_025, 2), (96_000, 1), (8_000, 1)]
)
def test_other_rates_and_channels_are_stored(tmp_path: Path, rate_hz: int, channels: int) -> None:
    folder = write_tiny(
        tmp_path / "clips", machine_types=["fan"], source_clips=2, target_clips=0, test_clips_per_cell=1
    )
    generator = np.random.default_rng(rate_hz)
    for place, path in enumerate(sorted(folder.glob("fan/*/*.wav"))):
        wave = 0.1 * generator.standard_normal((rate_hz // 5 + 17 * place, channels))
        soundfile.write(path, wave, rate_hz, subtype="PCM_24")
    data = catalog.add(Workspace.from_environment(), "odd", folder)
    shard = feature_store.waveforms(data, "fan")
    mels = feature_store.mels(data, "fan", SPEC, min_frames=1)
    for clip_id, path, duration_s in data.clips.select("clip_id", "path", "duration_s").iter_rows():
        assert np.array_equal(shard.clip(clip_id), read_clip(folder / path, channels="mean"))
        assert abs(len(shard.clip(clip_id)) - duration_s * SAMPLE_RATE_HZ) <= 0.5
        assert len(mels.clip(clip_id)) == SPEC.frames(len(shard.clip(clip_id)))


def test_the_cost_is_foretold(data: DataSet, home: Path) -> None:
    wanted = [spec_of(data, machine_type) for machine_type in data.machine_types]
    assert not any(feature_store.is_built(data, spec) for spec in wanted)
    foretold = feature_store.bytes_to_build(data, [*wanted, *wanted])  # each once
    for spec in wanted:
        feature_store.build(data, spec)
    on_disk = sum(path.stat().st_size for path in (home / "store").glob("*.arrow"))
    assert 0 <= on_disk - foretold < 4 * 4096
    assert all(feature_store.is_built(data, spec) for spec in wanted)
    assert feature_store.bytes_to_build(data, wanted) == 0
    other = [spec_of(data, machine_type, MelSpec()) for machine_type in data.machine_types]
    frames = 1 + data.clips["samples"].to_numpy() // 160
    assert feature_store.bytes_to_build(data, other) == frames.sum() * 128 * 2  # the waveforms are there


def test_building_counts_each_clip_twice_and_what_is_stored_at_once(data: DataSet) -> None:
    spec, counted = spec_of(data, "fan"), list[tuple[int, int]]()
    feature_store.build(data, spec, progress=lambda done, total: counted.append((done, total)))
    assert [done for done, _ in counted] == [*range(1, 19), 18]  # its waveforms, then its spectrograms
    assert {total for _, total in counted} == {18}
    counted.clear()
    feature_store.build(data, spec, progress=lambda done, total: counted.append((done, total)))
    assert counted == [(18, 18)]


def test_what_is_built_is_what_was_laid_out(data: DataSet) -> None:
    for least in (1, 60):
        layout = feature_store.mel_layout(data, "fan", SPEC, min_frames=least)
        shard = feature_store.mels(data, "fan", SPEC, min_frames=least)
        assert np.array_equal(layout.clip_ids, shard.clip_ids)
        assert np.array_equal(layout.starts, shard.starts)


def test_progress_counts_clips(data: DataSet) -> None:
    counted: list[int] = []
    feature_store.waveforms(data, "fan", progress=counted.append)
    feature_store.mels(data, "fan", SPEC, min_frames=1, progress=counted.append)
    assert sum(counted) == 18


def test_workers_change_nothing(data: DataSet, home: Path) -> None:
    one = feature_store.mels(data, "fan", SPEC, min_frames=1, workers=1).path.read_bytes()
    for path in (home / "store").iterdir():
        path.unlink()
    assert feature_store.mels(data, "fan", SPEC, min_frames=1, workers=4).path.read_bytes() == one


@pytest.mark.parametrize("step", ["posix_fallocate", "fsync"])  # for the scratch file, and for the final one
def test_a_full_disk_says_so_and_is_left_clean(
    data: DataSet, home: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(
            InfrastructureError, match=r"fan-waveform.*home/store' \(No space.*; make room, or set"
        ):
            feature_store.waveforms(data, "fan")
    assert files(home) == {}
    assert len(feature_store.waveforms(data, "fan").clip_ids) == 9


@pytest.mark.parametrize("left", [0, 5, 0.5, 0.999, "words"])
@pytest.mark.parametrize("kind", ["waveform", "mel"])
def test_a_file_that_was_cut_short_is_built_again(
    data: DataSet, home: Path, kind: str, left: float | str
) -> None:
    expected = feature_store.mels(data, "fan", SPEC, min_frames=1).path.read_bytes()
    (file,) = (home / "store").glob(f"fan-{kind}-*")
    whole = file.read_bytes()
    if isinstance(left, str):
        file.write_text(left)
    else:
        file.write_bytes(whole[: left if isinstance(left, int) else int(left * len(whole))])
    wanted = spec_of(data, "fan")
    if kind == "mel":
        assert not feature_store.is_built(data, wanted)
        assert feature_store.bytes_to_build(data, [wanted]) > 0
    else:
        (home / "store" / feature_store.mel_path(data, "fan", SPEC, min_frames=1)).unlink()
    assert feature_store.mels(data, "fan", SPEC, min_frames=1).path.read_bytes() == expected
    assert file.read_bytes() == whole
    assert feature_store.is_built(data, wanted)


def test_windows_that_every_clip_fills_share_one_file(data: DataSet) -> None:
    shortest = int(min(1 + np.diff(feature_store.waveforms(data, "fan").starts) // SPEC.hop_samples))
    few, all_ = (feature_store.mel_path(data, "fan", SPEC, min_frames=least) for least in (1, shortest))
    more = feature_store.mel_path(data, "fan", SPEC, min_frames=shortest + 1)
    assert few == all_ != more


# Damage


def zero(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(1000))


def zero_without_a_trace(path: Path) -> None:
    status = path.stat()
    zero(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "is_seen_at_once"), [(zero, True), (zero_without_a_trace, False), (become_a_folder, True)]
)
def test_a_damaged_file_is_built_again(
    data: DataSet,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    is_seen_at_once: bool,
) -> None:
    shard = feature_store.mels(data, "fan", SPEC, min_frames=1)
    expected = shard.rows.copy()
    damage(shard.path)
    monkeypatch.setattr(digests, "_verified", {})  # as in a new process
    assert (feature_store.stored(shard.path) is None) == is_seen_at_once
    again = feature_store.mels(data, "fan", SPEC, min_frames=1)
    assert np.array_equal(again.rows, expected)
    assert caplog.text.count("are damaged; they are built again") == 1


@pytest.mark.parametrize("is_mel", [True, False])
def test_a_damaged_copy_on_a_node_without_recordings_is_a_fault_of_the_node(
    data: DataSet, tmp_path: Path, is_mel: bool
) -> None:
    def read() -> feature_store.Shard:
        if is_mel:
            return feature_store.mels(data, "fan", SPEC, min_frames=1)
        return feature_store.waveforms(data, "fan")

    path = read().path
    (tmp_path / "clips").rename(tmp_path / "elsewhere")
    zero(path)
    if is_mel:
        feature_store.waveform_path(data, "fan").unlink()
    with pytest.raises(InfrastructureError, match=r"damaged and are removed, and cannot be built here"):
        read()
    with pytest.raises(InputError, match="changed or vanished"):
        read()


def test_damaged_waveforms_give_no_spectrogram(data: DataSet) -> None:
    expected = feature_store.mels(data, "fan", SPEC, min_frames=1).rows.copy()
    zero(feature_store.waveform_path(data, "fan"))
    feature_store.mel_path(data, "fan", SPEC, min_frames=1).unlink()
    assert np.array_equal(feature_store.mels(data, "fan", SPEC, min_frames=1).rows, expected)


def test_a_file_is_read_once_per_process(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    feature_store.mels(data, "fan", SPEC, min_frames=1)
    read: list[Path] = []
    digest_of = digests.digest_of
    monkeypatch.setattr(digests, "digest_of", lambda path: read.append(path) or digest_of(path))
    path = feature_store.mels(data, "fan", SPEC, min_frames=1).path
    feature_store.mels(data, "fan", SPEC, min_frames=1)
    feature_store.stored(path)
    assert read == [path]
