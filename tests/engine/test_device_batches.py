"""Batches of whole clips as large as the memory allows, and the scores that come of them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from asdbench.backends import BackendBank
from asdbench.data.batch_frames import BatchFrames
from asdbench.data.loader import JobData
from asdbench.data.raw_batch import RawBatch
from asdbench.data.sets import catalog
from asdbench.engine.device_batches import device_batches
from asdbench.engine.scoring import _scores_of
from asdbench.io.workspace import Workspace
from asdbench.spec import MelSpec
from asdbench.system import BatchPlan, ClipBatch, InputSpec, System, TrainingFacts, training_embeddings
from asdbench.testing import write_tiny

CPU = torch.device("cpu")
SPEC = InputSpec(MelSpec(n_mels=16, hop_samples=512), window_frames=8, window_hop_frames=4, standardize=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> JobData:
    base: Path = tmp_path_factory.mktemp("batches")
    data = catalog.add(Workspace.from_home(base / "home"), "tiny", write_tiny(base / "clips"))
    return JobData(data, "fan", input_spec=SPEC, plan=BatchPlan(4, "window-per-clip"), seed=0)


class Projected(System[Any]):
    """Random projections of windows, scored by all back ends."""

    def __init__(self) -> None:
        super().__init__(None, TrainingFacts((), {}))
        self.layer = torch.nn.Linear(8 * 16, 12, bias=False)
        torch.nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(0))
        self.bank = BackendBank()

    def embed(self, batch: ClipBatch) -> Tensor:
        values: Tensor = self.layer(batch.windows.flatten(1))
        return values

    def fit_backend(self, batches: Any) -> None:
        embeddings, target, clip = training_embeddings(batches, self.embed)
        self.bank.fit(embeddings, target, clip=clip, seed=0)

    def window_components(self, batch: ClipBatch) -> dict[str, Tensor]:
        return self.bank.score(self.embed(batch), batch.clip, batch.n_clips)

    def embeddings(self, batch: ClipBatch) -> Tensor:
        return batch.mean_over_clips(self.embed(batch))


def of_size(frames: int) -> BatchFrames:
    size = BatchFrames(CPU)
    size.frames = frames
    return size


@torch.no_grad()
def scored(clips: JobData, frames: int) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float16]]:
    """Return the scores of a system that is fitted and scores in batches of so many frames."""
    system = Projected()
    system.fit_backend(device_batches(clips.raw_backend_batches, clips.preparation, of_size(frames)))
    scores, embeddings = _scores_of(
        system, partial(clips.raw_scoring_batches, clips.test_ids), clips, of_size(frames)
    )
    assert embeddings is not None
    return scores, embeddings


def test_scores_depend_on_the_size_of_batches_by_rounding_alone(clips: JobData) -> None:
    sizes = [len(list(clips.raw_scoring_batches(clips.test_ids, of_size(n)))) for n in (8, 200, 10**6)]
    assert len(clips.test_ids) == sizes[0] > sizes[1] > sizes[2] == 1
    (scores, embeddings), *others = (scored(clips, frames) for frames in (8, 200, 10**6))
    for of_size_scores, of_size_embeddings in others:
        for name, values in scores.items():
            np.testing.assert_allclose(of_size_scores[name], values, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(of_size_embeddings, embeddings, rtol=2e-3, atol=1e-3)


class Growing:
    """A memory of which every batch takes 1000 bytes a frame."""

    def __init__(self) -> None:
        self.frames = 0

    def used(self) -> int:
        return 0

    def peak(self) -> int:
        return 1000 * self.frames

    def start(self) -> None:
        self.frames = 0

    def free(self) -> int:
        return 2 * 400 * 1000

    def release(self) -> None:
        pass


def test_batches_grow_within_a_pass(clips: JobData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asdbench.data.batch_frames.SCORING_FRAMES", 100)
    memory = Growing()
    sizes = []
    for batch in device_batches(clips.raw_backend_batches, clips.preparation, BatchFrames(CPU, memory)):
        memory.frames = batch.windows.shape[0] * batch.windows.shape[1]
        sizes.append(memory.frames)
    assert sizes[0] <= 100
    assert 300 < max(sizes[1:]) <= 400
    assert sum(sizes) == sum(b.windows.shape[0] * 8 for b in clips.backend_batches())


def test_no_clip_is_scored_twice_where_memory_runs_out(clips: JobData) -> None:
    expected, _ = scored(clips, 10**6)
    frames, failures = of_size(10**6), [500_000, 10**6]

    class RunsOut(Projected):
        def components(self, batch: ClipBatch) -> dict[str, Tensor]:
            if failures and frames.frames <= failures[-1]:
                failures.pop()
                raise torch.OutOfMemoryError
            return super().components(batch)

    with torch.no_grad():
        system = RunsOut()
        system.fit_backend(clips.backend_batches())
        scores, _ = _scores_of(system, partial(clips.raw_scoring_batches, clips.test_ids), clips, frames)
    assert frames.frames == 250_000
    np.testing.assert_allclose(scores["knn"], expected["knn"], rtol=1e-5)


def test_what_a_system_returns_stays_on_its_device_until_the_end(clips: JobData) -> None:
    device = torch.device("meta")  # reading a value of it is an error
    finished: list[str] = []

    class OnDevice(Projected):
        def components(self, batch: ClipBatch) -> dict[str, Tensor]:
            return {"a": torch.zeros(batch.n_clips, device=device)}

        def embeddings(self, batch: ClipBatch) -> Tensor:
            return torch.zeros(batch.n_clips, 2, device=device)

    def make(most: BatchFrames) -> Iterator[RawBatch]:
        yield from clips.raw_scoring_batches(clips.test_ids, most)
        finished.append("all")

    with pytest.raises(NotImplementedError, match="meta"):
        _scores_of(OnDevice(), make, clips, of_size(200))
    assert finished == ["all"]
