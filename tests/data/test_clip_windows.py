from pathlib import Path

import numpy as np
import pytest
import torch

from asdbench.data.clip_windows import scoring_batches
from asdbench.data.loader import JobData
from asdbench.data.sets import catalog
from asdbench.io.workspace import Workspace
from asdbench.spec import MelSpec
from asdbench.system import UNKNOWN, BatchPlan, InputSpec
from asdbench.testing import write_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> catalog.DataSet:
    base = tmp_path_factory.mktemp("windows")
    return catalog.add(Workspace.from_home(base / "home"), "tiny", write_tiny(base / "clips"))


@pytest.mark.parametrize("window_frames", [8, 120, None])  # 120: longer than some clips; None: whole clips
@pytest.mark.parametrize("standardize", [False, True])
def test_clips_outside_a_store_give_the_batches_of_stored_ones(
    data: catalog.DataSet, window_frames: int | None, standardize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asdbench.data import feature_store

    monkeypatch.setattr("asdbench.data.clip_windows.SCORING_FRAMES", 700)  # several batches
    spec = InputSpec(MelSpec(n_mels=16), window_frames, 5, standardize=standardize, waveform=True)
    job = JobData(data, "fan", input_spec=spec, plan=BatchPlan(4, "window-per-clip"), seed=0)
    shard = feature_store.waveforms(data, "fan")
    clips = [np.array(shard.clip(int(clip_id))) for clip_id in job.test_ids]
    stored = list(job.scoring_batches(job.test_ids))
    own = list(scoring_batches(clips, spec, job.standardization, section=0))
    assert len(stored) == len(own) > 1
    for one, other in zip(stored, own, strict=True):
        assert one.n_clips == other.n_clips
        for name in ("windows", "clip", "machine", "section", "waveform"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert other.domain is other.attributes is None


def test_an_unknown_section_is_unknown() -> None:
    spec = InputSpec(MelSpec(n_mels=16), 8, 8)
    (batch,) = scoring_batches([np.zeros(16_000, np.int16)], spec, None, section=UNKNOWN)
    assert set(batch.section.tolist()) == {UNKNOWN}
    assert batch.waveform is None


def test_recordings_are_not_written(data: catalog.DataSet, tmp_path: Path) -> None:
    clip = np.arange(4000, dtype=np.int16)
    before = clip.copy()
    list(scoring_batches([clip], InputSpec(MelSpec(), 64, 64, waveform=True), None, section=0))
    assert (clip == before).all()
