import numpy as np

from asdbench.engine.detection import Detection, SoundEvent, WindowScores, events


def clip(start_s: float, score: float, *, duration_s: float = 2.0) -> Detection:
    return Detection("fan", start_s, start_s + duration_s, score, 0.5, {})


def test_anomalous_clips_that_overlap_or_touch_are_one_event() -> None:
    scores = [0, 1, 3, 0, 0, 0, 2, 0]
    found = list(events(clip(float(start), score) for start, score in enumerate(scores)))
    assert found == [SoundEvent(1.0, 4.0, 3.0, 3), SoundEvent(6.0, 8.0, 7.0, 2)]
    touching = [clip(0.0, 1), clip(2.0, 1), clip(4.0, 0), clip(8.0, 1)]
    assert [(event.start_s, event.end_s) for event in events(touching)] == [(0.0, 4.0), (8.0, 10.0)]


def test_a_gap_of_normal_clips_separates_events_only_when_they_do_not_overlap() -> None:
    # the clips at 0 s and 1 s overlap although the one between them is normal
    found = list(events([clip(0.0, 1), clip(0.5, 0), clip(1.0, 1)]))
    assert [(event.start_s, event.end_s) for event in found] == [(0.0, 3.0)]


def test_an_event_comes_when_it_is_over() -> None:
    seen = []

    def stream() -> object:
        for start, score in enumerate([1, 0, 0, 0, 0]):
            seen.append(start)
            yield clip(float(start), score)

    assert next(events(stream())).end_s == 2.0  # type: ignore[arg-type]
    assert seen == [0, 1, 2]


def test_the_peak_is_the_highest_window() -> None:
    windows = WindowScores(np.array([0.0, 0.5]), np.array([0.4, 0.9]), np.array([1.0, 2.0]))
    assert Detection("fan", 0.0, 1.0, 1.5, 1.0, {}, windows).peak_s == 0.7
    assert clip(0.0, 1).peak_s == 1.0
    assert (clip(0.0, 1).decision, clip(0.0, 0.5).decision) == ("anomaly", "normal")
