import io
import os
from pathlib import Path

import numpy as np
import pytest

from asdbench.driver.detect import audio_files, detect_files, detect_stream, explanation_sentence, pcm_blocks
from asdbench.engine.detector import Detector
from asdbench.engine.explanation import Explanation
from asdbench.errors import InputError
from tests.exported import Exported

RATE = 16_000


def test_folders_give_their_recordings_once(tmp_path: Path) -> None:
    for name in ("b.wav", "a/c.FLAC", "a/.hidden.wav", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    expected = [tmp_path / "a" / "c.FLAC", tmp_path / "b.wav"]
    assert audio_files([tmp_path, tmp_path / "b.wav"]) == expected
    assert audio_files([tmp_path / "a" / "notes.txt"]) == [tmp_path / "a" / "notes.txt"]


def test_samples_come_in_blocks_whatever_the_reads() -> None:
    samples = np.arange(-9_000, 9_001, dtype=np.int16)
    blocks = list(pcm_blocks(io.BytesIO(samples.astype("<i2").tobytes()), RATE))
    assert len(blocks) > 3
    np.testing.assert_array_equal(np.concatenate(blocks)[:, 0] * 32768, samples)


def test_an_odd_byte_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    (block,) = pcm_blocks(io.BytesIO(b"\x01\x00\x02"), RATE)
    assert block.tolist() == [[1 / 32768]]
    assert "the stream ended within a sample" in caplog.text


def test_an_unknown_threshold_is_no_fault_of_a_file(exported: Exported) -> None:
    fan = Detector.load(exported.folder).machine("fan")
    with pytest.raises(InputError, match="no threshold method 'gama'"):
        list(detect_files(fan, [exported.test_file("fan")], threshold="gama"))


@pytest.mark.parametrize(("drop", "sentence"), [
    (0.06, "masking 10.50 to 11.00 s, 1.00 to 8.00 kHz lowers the score most: 7.09 to 7.03"),
    (0.0, "no part of the recording alone carries the score of 7.09"),
    (-0.5, "no part of the recording alone carries the score of 7.09"),
    (1e-6, "no part of the recording alone carries the score of 7.09"),
])  # fmt: skip
def test_an_explanation_says_what_masking_does(drop: float, sentence: str) -> None:
    lowered = np.array([[-1.0, -2.0], [-3.0, drop]])
    edges_hz, edges_s = np.array([0.0, 1000.0, 8000.0]), np.array([0.0, 0.5, 1.0])
    found = Explanation(7.09, lowered, np.zeros(2), edges_hz, edges_s)
    assert explanation_sentence(found, start_s=10.0) == sentence


class _Noise(io.RawIOBase):
    """A stream of noise that holds one second of it, and how much was read."""

    def __init__(self, duration_s: int) -> None:
        self._second = np.random.default_rng(0).normal(0, 1000, RATE).astype("<i2").tobytes()
        self._left = duration_s * len(self._second)
        self.read_s = 0.0

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._left, len(self._second))
        self._left -= size
        self.read_s += size / len(self._second)
        return self._second[:size]


def resident_mb() -> float:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_stream_of_ten_minutes_is_scored_in_constant_memory(exported: Exported) -> None:
    fan = Detector.load(exported.folder).machine("fan")
    stream = _Noise(600)
    found = detect_stream(fan, stream, RATE, length=fan.length(10.0))  # type: ignore[arg-type]
    used_mb = []
    for number, detection in enumerate(found):
        assert stream.read_s <= detection.end_s + 0.5  # each clip comes as soon as it is complete
        if number in (10, 118):
            used_mb.append(resident_mb())
    assert number == 118
    assert used_mb[1] - used_mb[0] < 10  # nine minutes are 17 MB as 16-bit samples and 35 MB as float32
