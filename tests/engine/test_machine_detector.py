import numpy as np
import pytest

from asdbench.engine.detector import Detector
from asdbench.engine.machine_detector import MachineDetector, probe_clip
from tests.exported import Exported


@pytest.fixture(scope="module")
def fan(exported: Exported) -> MachineDetector:
    return Detector.load(exported.folder).machine("fan")


def test_several_clips_are_scored_as_each_alone(fan: MachineDetector) -> None:
    clips = [probe_clip(samples) for samples in (4000, 16_000, 9000)]
    together = fan.scores(clips)
    assert together.windows is not None
    for place, clip in enumerate(clips):
        alone = fan.scores([clip])
        assert together.score[place] == pytest.approx(alone.score[0], rel=1e-6)
        assert alone.windows is not None
        np.testing.assert_allclose(together.windows[place], alone.windows[0], rtol=1e-4, atol=1e-4)


def test_the_usual_length_is_that_of_training_clips(fan: MachineDetector) -> None:
    clips = fan.record.clips
    assert (fan.length().clip_s, fan.length().hop_s) == (clips.median_s, clips.median_s / 2)
    assert (fan.length(3.0).clip_s, fan.length(3.0).hop_s) == (3.0, 1.5)
    assert fan.length(None, 0.1).hop_s == 0.1
    assert fan.longest_s == 1.5 * clips.longest_s


def test_a_probe_scores_as_when_exported(fan: MachineDetector) -> None:
    probe = fan.record.probe
    assert fan.scores([probe_clip(probe.samples)]).score[0] == probe.score
