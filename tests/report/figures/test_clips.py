"""Spectrograms as they are drawn."""

import numpy as np

from asdbench.report.figures.clips import spectrogram


def test_a_spectrogram_spans_60_db_below_its_maximum() -> None:
    mels = np.linspace(-90, -10, 40, dtype=np.float32).reshape(10, 4)
    axis = spectrogram(mels, duration_s=2.0, f_max_hz=8000.0).axes[0]
    image = axis.images[0]
    assert image.get_clim() == (-70.0, -10.0)
    assert image.get_extent() == [0, 2.0, 0, 4] or tuple(image.get_extent()) == (0, 2.0, 0, 4)
    assert np.array_equal(image.get_array(), mels.T)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["0", "8"]
