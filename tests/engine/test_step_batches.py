import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from asdbench.data.loader import JobData
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.engine.runtime import Runtime
from asdbench.engine.step_batches import made_ahead, step_batches
from asdbench.io.workspace import Workspace
from asdbench.spec import MelSpec
from asdbench.system import BatchPlan, InputSpec
from asdbench.testing import write_tiny


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as threads:
        yield threads


def test_results_come_in_order_from_several_threads(pool: ThreadPoolExecutor) -> None:
    at_once = threading.Barrier(3, timeout=20)

    def make(step: int) -> tuple[int, bool]:
        if 1 <= step <= 3:
            at_once.wait()  # a single thread would wait in vain
        return step, threading.current_thread() is threading.main_thread()

    made = list(made_ahead(make, range(9), pool=pool, ahead=4))
    assert [step for step, _ in made] == list(range(9))
    assert [is_main for _, is_main in made] == [True] + [False] * 8


def test_only_so_many_are_made_before_they_are_asked_for(pool: ThreadPoolExecutor) -> None:
    made: list[int] = []
    results = made_ahead(lambda step: made.append(step), range(100), pool=pool, ahead=3)
    for _ in range(5):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(made) <= 5 + 3


def test_what_a_thread_raises_comes_in_its_place(pool: ThreadPoolExecutor) -> None:
    results = made_ahead(lambda step: 1 // (4 - step), range(9), pool=pool, ahead=3)
    assert [next(results) for _ in range(4)] == [0, 0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataSet]:
    base: Path = tmp_path_factory.mktemp("batches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDBENCH_HOME", str(base / "home"))
        folder = write_tiny(base / "clips", machine_types=("fan", "pump"))
        yield catalog.add(Workspace.from_environment(), "tiny", folder)


def job(data: DataSet, plan: BatchPlan) -> JobData:
    spec = InputSpec(MelSpec(n_mels=8), 40, standardize=True, waveform=True)
    return JobData(data, "fan", input_spec=spec, plan=plan, seed=2)


@pytest.mark.parametrize(
    "plan",
    [
        BatchPlan(64, "every-window", validation_share=0.1),
        BatchPlan(
            16, "window-per-clip", pseudo_anomaly_share=0.5, augmentations=("noise", "identity", "pitch")
        ),
    ],
)
def test_threads_make_the_batches_that_one_makes(
    data: DataSet, plan: BatchPlan, pool: ThreadPoolExecutor
) -> None:
    """Over the ends of epochs, too."""
    one, threaded = job(data, plan), job(data, plan)
    steps = range(one.steps_per_epoch - 2, one.steps_per_epoch + 6)
    for step, raw in zip(steps, made_ahead(threaded.raw_batch, steps, pool=pool, ahead=6), strict=True):
        expected = one.raw_batch(step)
        assert len(raw.tensors()) == len(expected.tensors())
        assert all(map(torch.equal, raw.tensors(), expected.tensors()))


def test_steps_on_a_cpu_get_the_rows_of_their_process(data: DataSet) -> None:
    found = job(data, BatchPlan(8, "window-per-clip"))
    batches = step_batches(found, range(2, 4), Runtime(rank=1, size=2))
    for step, batch in zip((2, 3), batches, strict=True):
        assert torch.equal(batch.windows, found.batch(step, rank=1, size=2).windows)
