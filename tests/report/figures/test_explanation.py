import io
from dataclasses import replace

import numpy as np

from asdbench.engine.detection import Detection, WindowScores
from asdbench.engine.explanation import Explanation
from asdbench.report.figures.explanation import explanation_figure

DETECTION = Detection("fan", 5.0, 6.0, 2.0, 1.0, {})
EXPLANATION = Explanation(
    2.0, np.array([[0.1, 0.0], [0.5, -0.1]]), np.array([0.6, 0.0]), np.array([0.0, 1000.0, 8000.0]),
    np.array([0.0, 0.5, 1.0]),
)  # fmt: skip
CLIP = np.random.default_rng(0).normal(0, 1000, 16_000).astype(np.int16)


def test_scores_of_windows_are_drawn_at_their_place_in_the_recording() -> None:
    windows = WindowScores(np.array([5.0, 5.5]), np.array([5.5, 6.0]), np.array([1.0, 3.0]))
    figure = explanation_figure(CLIP, replace(DETECTION, windows=windows), EXPLANATION, title="a.wav")
    spectrogram, _, scores = figure.axes
    assert spectrogram.get_title(loc="left") == "a.wav: anomaly, score 2 (threshold 1)"
    assert scores.lines[0].get_xdata().tolist() == [5.25, 5.75]
    assert spectrogram.get_xlim() == scores.get_xlim() == (5.0, 6.0)
    assert scores.get_ylabel() == "score of windows"


def test_without_window_scores_the_drop_over_time_is_drawn() -> None:
    figure = explanation_figure(CLIP, DETECTION, EXPLANATION, title="a.wav")
    _, _, scores = figure.axes
    assert scores.patches[0].get_data().values.tolist() == [0.6, 0.0]
    assert scores.get_ylabel() == "drop when masked"


def test_a_title_has_the_name_of_a_file_as_it_is() -> None:
    figure = explanation_figure(CLIP, DETECTION, EXPLANATION, title=r"$\a$.wav")
    figure.savefig(io.BytesIO(), format="png")
    assert figure.axes[0].get_title(loc="left").startswith(r"$\a$.wav: anomaly")


def test_patches_of_a_small_or_negative_drop_stay_clear() -> None:
    figure = explanation_figure(CLIP, DETECTION, EXPLANATION, title="a.wav")
    drawn = figure.axes[0].collections[1].get_array().tolist()
    assert drawn == [[0.1, 0.0], [0.5, 0.0]]
