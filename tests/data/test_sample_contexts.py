import numpy as np
import pytest
import torch

from asdbench.data.clip_windows import crop_samples, crops, first_sample
from asdbench.data.feature_store import Layout
from asdbench.data.sample_contexts import contexts_of, spans
from asdbench.spec import MelSpec

MEL = MelSpec(n_fft=64, hop_samples=16, n_mels=4)
SIZES = np.array([500, 40, 130, 3, 900])
SAMPLES = np.random.default_rng(0).integers(-32768, 32767, SIZES.sum(), dtype=np.int16)
STOPS = np.cumsum(SIZES)
STARTS = STOPS - SIZES


def clip(which: int) -> np.ndarray:
    return SAMPLES[STARTS[which] : STOPS[which]]


@pytest.mark.parametrize("frames", [1, 9, 200])
def test_contexts_are_the_crops_of_single_clips(frames: int) -> None:
    """Clips that are longer and shorter than a window; from the first frame to the last, and beyond."""
    least = MEL.hop_samples * (frames - 1)
    rows = [
        (which, start)
        for which, size in enumerate(SIZES)
        for start in range(0, 2 + (max(size, least) // MEL.hop_samples) - frames + 3)
    ]
    which, start = np.array(rows).T
    repeated = [np.resize(clip(k), max(len(clip(k)), least)) for k in which]
    expected = crops(repeated, start, MEL, frames=frames)
    first, length = first_sample(start, MEL), crop_samples(MEL, frames)
    found = contexts_of(torch.from_numpy(SAMPLES), STARTS[which], STOPS[which], first, length, least=least)
    assert found.dtype == torch.int16
    assert torch.equal(found.float() * (1 / 32768), expected)


@pytest.mark.parametrize("length", [1, 100, 1000])
@pytest.mark.parametrize("least", [0, 200])
def test_a_circular_context_goes_on_at_the_other_end(length: int, least: int) -> None:
    which = np.repeat(np.arange(len(SIZES)), 40)
    first = np.random.default_rng(1).integers(-2000, 2000, len(which))
    found = contexts_of(
        torch.from_numpy(SAMPLES), STARTS[which], STOPS[which], first, length, least=least, circular=True
    )
    for row, (k, begin) in enumerate(zip(which, first, strict=True)):
        whole = np.resize(clip(k), max(len(clip(k)), least))
        assert np.array_equal(found[row], whole[np.arange(begin, begin + length) % len(whole)])


def test_a_clip_that_a_file_lacks_is_an_error() -> None:
    layout = Layout.from_lengths(np.array([3, 7]), np.array([10, 20]))
    for absent in (2, 5, 9):
        with pytest.raises(KeyError, match=str(absent)):
            spans(layout, np.array([3, absent]))
