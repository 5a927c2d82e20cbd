import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdbench.data import audio
from asdbench.data.audio import BadAudio, facts_or_reason, inspect_clip, kept_channels, read_clip
from asdbench.errors import InputError

RNG_SEED = 7


def noise(samples: int, channels: int = 1) -> np.ndarray:
    wave = np.random.default_rng(RNG_SEED).integers(-32768, 32768, (samples, channels), dtype=np.int16)
    return wave[:, 0] if channels == 1 else wave


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_16_bit_mono_comes_through_bit_exact(tmp_path: Path, suffix: str) -> None:
    wave = noise(5000)
    wave[:4] = [-32768, 32767, -1, 1]
    soundfile.write(tmp_path / f"a.{suffix}", wave, 16000, subtype="PCM_16")
    read = read_clip(tmp_path / f"a.{suffix}", channels="mean")
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, wave)


def test_facts_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(1234, 2), 44100, subtype="PCM_24")
    facts = inspect_clip(path)
    assert (facts.samples, facts.sample_rate_hz, facts.channels) == (1234, 44100, 2)
    assert (facts.size_bytes, facts.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)


def test_the_content_is_the_samples_and_not_the_file(tmp_path: Path) -> None:
    wave = noise(5000) / 32768
    forms = [("flac", "PCM_16"), ("wav", "PCM_16"), ("flac", "PCM_24"), ("wav", "PCM_32"), ("wav", "DOUBLE")]
    hashes = set()
    for suffix, subtype in [*forms, ("wav", "FLOAT")]:
        path = tmp_path / f"{subtype}.{suffix}"
        soundfile.write(path, wave, 16000, subtype=subtype)
        hashes.add(inspect_clip(path).content_hash)
    assert len(hashes) == 1
    zeros = np.zeros(100)
    for number, silence in enumerate([zeros, -zeros]):
        soundfile.write(tmp_path / f"zero{number}.wav", silence, 16000, subtype="FLOAT")
    assert len({inspect_clip(tmp_path / f"zero{number}.wav").content_hash for number in (0, 1)}) == 1


def test_another_rate_other_channels_and_another_sample_are_another_content(tmp_path: Path) -> None:
    wave = noise(5000, 2)
    changed = wave.copy()
    changed[4321, 1] ^= 1
    soundfile.write(tmp_path / "0.wav", wave, 16000)
    soundfile.write(tmp_path / "1.wav", wave, 22050)
    soundfile.write(tmp_path / "2.wav", wave.reshape(-1), 16000)
    soundfile.write(tmp_path / "3.wav", changed, 16000)
    assert len({inspect_clip(tmp_path / f"{number}.wav").content_hash for number in range(4)}) == 4


def test_the_spectrum_is_that_of_the_bands(tmp_path: Path) -> None:
    levels = {}
    for name, rate, tone_hz in (("low", 16000, 200), ("high", 16000, 5000), ("faster", 48000, 5000)):
        wave = 0.5 * np.sin(2 * np.pi * tone_hz * np.arange(3 * rate) / rate)
        soundfile.write(tmp_path / f"{name}.wav", wave, rate, subtype="PCM_16")
        facts = inspect_clip(tmp_path / f"{name}.wav")
        assert facts.spectrum is not None
        assert len(facts.spectrum) == audio.SPECTRUM_BANDS
        levels[name] = np.array(facts.spectrum)
    assert levels["low"].argmax() < levels["high"].argmax()
    assert levels["faster"].argmax() == levels["high"].argmax()
    quiet = 0.05 * np.sin(2 * np.pi * 200 * np.arange(48000) / 16000)
    soundfile.write(tmp_path / "quiet.wav", quiet, 16000, subtype="PCM_16")
    band = levels["low"].argmax()
    quieter = inspect_clip(tmp_path / "quiet.wav").spectrum
    assert quieter is not None
    assert levels["low"][band] - quieter[band] == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize(("samples", "rate"), [(1, 16000), (700, 1000), (40, 96000)])
def test_short_clips_have_a_spectrum(tmp_path: Path, samples: int, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", noise(samples, 2), rate, subtype="PCM_16")
    spectrum = inspect_clip(tmp_path / "a.wav").spectrum
    assert spectrum is not None
    assert np.isfinite(spectrum).all()


def test_channel_policies(tmp_path: Path) -> None:
    left, right = noise(3000, 2).T
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16000, subtype="PCM_16")
    np.testing.assert_array_equal(read_clip(tmp_path / "a.wav", channels="near"), left)
    np.testing.assert_array_equal(read_clip(tmp_path / "a.wav", channels="far"), right)
    mean = np.rint((left.astype(float) + right) / 2).astype(np.int16)
    np.testing.assert_array_equal(read_clip(tmp_path / "a.wav", channels="mean"), mean)
    with pytest.raises(InputError, match="no channel policy 'nearest'; did you mean 'near'"):
        read_clip(tmp_path / "a.wav", channels="nearest")  # type: ignore[arg-type]


def test_resampling_keeps_a_tone_and_removes_what_would_fold(tmp_path: Path) -> None:
    time_s = np.arange(48000) / 48000
    for name, frequency_hz in (("tone", 1000), ("above", 11000)):
        wave = 0.5 * np.sin(2 * np.pi * frequency_hz * time_s)
        soundfile.write(tmp_path / f"{name}.wav", wave, 48000, subtype="PCM_16")
    tone = read_clip(tmp_path / "tone.wav", channels="near")
    expected = 0.5 * 32768 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert len(tone) == 16000
    assert np.abs(tone - expected)[500:-500].max() < 4
    assert np.abs(read_clip(tmp_path / "above.wav", channels="near"))[500:-500].max() < 4
    assert len(read_clip(tmp_path / "tone.wav", sample_rate_hz=8000, channels="near")) == 8000


def test_float_samples_are_rounded_and_clipped(tmp_path: Path) -> None:
    wave = np.array([0.0, 1.5, -1.5, 0.6 / 32768, 1.5 / 32768, -1.0])
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    assert read_clip(tmp_path / "a.wav", channels="near").tolist() == [0, 32767, -32768, 1, 2, -32768]


def test_a_clip_too_short_to_resample_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1), 48000)
    with pytest.raises(BadAudio, match="too short to leave a sample at 16000 Hz"):
        read_clip(tmp_path / "a.wav", channels="near")


def test_long_recordings_are_decoded_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asdbench.data.audio._BLOCK_FRAMES", 1000)
    soundfile.write(tmp_path / "a.flac", noise(12345), 16000)
    assert inspect_clip(tmp_path / "a.flac").samples == 12345
    np.testing.assert_array_equal(read_clip(tmp_path / "a.flac", channels="mean"), noise(12345))


def test_both_microphones_follow_one_another(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    wave = np.stack([noise(1000), noise(1000)[::-1], noise(1000) // 2], axis=1)
    soundfile.write(path, wave, 16000)
    found = read_clip(path, channels="both")
    assert np.array_equal(found, np.concatenate([wave[:, 0], wave[:, 2]]))
    assert kept_channels(3, "both") == kept_channels(2, "both") == 2
    soundfile.write(path, wave, 48000)
    alone = [read_clip(path, channels=policy) for policy in ("near", "far")]
    assert np.array_equal(read_clip(path, channels="both"), np.concatenate(alone))
    soundfile.write(path, wave[:, 0], 16000)
    assert np.array_equal(read_clip(path, channels="both"), wave[:, 0])
    assert kept_channels(1, "both") == kept_channels(2, "near") == kept_channels(2, "mean") == 1


def write_bad(path: Path, kind: str) -> None:
    """Write a bad file of the given kind at ``path``."""
    whole = path.with_name("whole" + path.suffix)
    if kind == "empty":
        path.touch()
    elif kind == "zero length":
        soundfile.write(path, np.zeros(0, np.int16), 16000)
    elif kind.startswith("cut"):
        soundfile.write(whole, noise(20000), 16000)
        content = whole.read_bytes()
        keep = {"cut in half": len(content) // 2, "cut by one byte": len(content) - 1, "cut header": 20}[kind]
        path.write_bytes(content[:keep])
    elif kind == "overwritten":
        soundfile.write(whole, noise(20000), 16000)
        content = bytearray(whole.read_bytes())
        content[10000:12000] = bytes(2000)
        path.write_bytes(content)
    elif kind in ("nan", "infinite"):
        wave = np.zeros(100)
        wave[50] = {"nan": np.nan, "infinite": np.inf}[kind]
        soundfile.write(path, wave, 16000, subtype="FLOAT")
    elif kind.endswith(" Hz"):
        soundfile.write(path, noise(1000), int(kind.split()[0]))
    elif kind == "text":
        path.write_text("not a recording\n" * 50)
    elif kind == "mp3":
        soundfile.write(path, np.zeros(4000), 16000, format="MP3")
    elif kind == "folder":
        path.mkdir()
    elif kind == "broken link":
        path.symlink_to("nowhere.wav")
    elif kind == "pipe":
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("kind", "suffix", "why"),
    [
        ("empty", "wav", r"empty file \(0 bytes\)"),
        ("empty", "flac", r"empty file \(0 bytes\)"),
        ("zero length", "wav", r"no samples \(zero length\)"),
        ("cut in half", "wav", "truncated: 200.. of the bytes"),
        ("cut by one byte", "wav", "truncated: 1 of the bytes"),
        ("cut in half", "flac", "truncated"),
        ("cut by one byte", "flac", "truncated"),
        ("cut header", "wav", "not audio, or cut inside its header"),
        ("cut header", "flac", "not audio, or cut inside its header"),
        ("overwritten", "flac", "truncated or damaged"),
        ("nan", "wav", "NaN or infinite samples"),
        ("infinite", "wav", "NaN or infinite samples"),
        ("1 Hz", "wav", "its sample rate is 1 Hz, not a whole number from 1000 to 1000000"),
        ("999 Hz", "flac", "its sample rate is 999 Hz"),
        ("1000001 Hz", "wav", "its sample rate is 1000001 Hz"),
        ("text", "wav", "not audio"),
        ("text", "flac", "not audio"),
        ("mp3", "wav", "MP3 audio, not WAV or FLAC"),
        ("folder", "wav", "a folder or a device"),
        ("pipe", "wav", "a folder or a device"),
        ("broken link", "wav", "a broken link"),
        ("missing", "wav", "no such file"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, kind: str, suffix: str, why: str) -> None:
    path = tmp_path / f"bad.{suffix}"
    write_bad(path, kind)
    with pytest.raises(BadAudio, match=rf"bad\.{suffix} is not a usable clip: .*({why})"):
        inspect_clip(path)
    with pytest.raises(BadAudio, match=why):
        read_clip(path, channels="mean")
    reason = facts_or_reason(path)
    assert isinstance(reason, str)
    assert str(path) not in reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(BadAudio, match="unreadable"):
        inspect_clip(tmp_path / "a.wav")


def test_a_refused_opening_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", noise(100), 16000)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadAudio, match=r"unreadable \(Permission denied\)"):
        inspect_clip(tmp_path / "a.wav")


def test_a_wav_file_from_a_pipe_promises_no_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1000), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert inspect_clip(tmp_path / "a.wav").samples == 1000


def uniform(*, high: float = 0.1, offset: float = 0.0, channels: int = 1, count: int = 40_000) -> np.ndarray:
    return np.random.default_rng(0).uniform(-high, high, (count, channels)) + offset


def dead_channel() -> np.ndarray:
    wave = uniform(channels=2)
    wave[:, 1] = 0
    return wave


SUSPICIOUS = [
    ("silent", np.zeros((40_000, 1)), "PCM_16"),
    ("silent", np.zeros((40_000, 2)), "FLOAT"),
    ("constant", np.full((40_000, 1), 0.3), "PCM_16"),
    ("silent channel", dead_channel(), "PCM_16"),
    ("beyond full scale", uniform(high=300), "FLOAT"),
    ("clipped", np.clip(uniform(high=1.01), -1, 1), "PCM_16"),
    ("clipped", np.clip(uniform(high=1.01), -1, 1), "PCM_24"),
    ("clipped", np.clip(uniform(high=1.01), -1, 1), "FLOAT"),
    ("offset", uniform(offset=-0.2), "PCM_16"),
    (None, uniform(high=0.9999), "PCM_16"),
    (None, uniform(high=1.0), "FLOAT"),
    (None, uniform(high=0.0005), "PCM_16"),
    (None, uniform(offset=0.05), "FLOAT"),
    (None, np.clip(uniform(high=1.0002), -1, 1), "PCM_16"),
]


@pytest.mark.parametrize(("fault", "wave", "subtype"), SUSPICIOUS, ids=lambda value: str(value)[:20])
def test_suspicious_samples_are_a_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str | None, wave: np.ndarray, subtype: str
) -> None:
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype=subtype)
    assert inspect_clip(tmp_path / "a.wav").fault == fault
    monkeypatch.setattr(audio, "_BLOCK_FRAMES", 1 << 12)
    assert inspect_clip(tmp_path / "a.wav").fault == fault
