"""How many jobs share a GPU: decided from measurements alone."""

import pytest

from asdbench.cluster.messages import GpuUse
from asdbench.cluster.sharing import (
    MOST_PROCESSES,
    MOST_STACKED,
    GpuSharing,
    jobs_that_stack,
    processes_that_share,
)

GIB = 1 << 30


def use(total: float, peak: float, busy: float | None = None, jobs: int = 1) -> GpuUse:
    return GpuUse(int(total * GIB), int(peak * GIB), busy, jobs)


@pytest.mark.parametrize("total", [16.0, 24.0, 80.0, 141.0])
@pytest.mark.parametrize("peak", [0.01, 0.5, 3.0, 30.0, 200.0])
def test_a_stack_fits_the_memory_and_is_as_large_as_that_allows(total: float, peak: float) -> None:
    jobs = jobs_that_stack(use(total, peak))
    assert 1 <= jobs <= MOST_STACKED
    assert jobs == 1 or jobs * peak < 0.9 * total
    assert jobs == MOST_STACKED or (jobs + 1) * peak > 0.85 * total


def test_a_stack_tells_the_memory_of_one_job() -> None:
    assert jobs_that_stack(use(80.0, 16.0, jobs=4)) == jobs_that_stack(use(80.0, 4.0)) == 17


@pytest.mark.parametrize(
    ("measured", "processes"),
    [
        (use(80.0, 2.0, busy=0.95), 1),  # the GPU is busy
        (use(80.0, 2.0, busy=0.45), 2),
        (use(80.0, 2.0, busy=0.2), 4),
        (use(80.0, 2.0, busy=0.0), MOST_PROCESSES),
        (use(80.0, 30.0, busy=0.1), 2),  # its memory is full
        (use(24.0, 20.0, busy=0.1), 1),
        (use(80.0, 100.0, busy=0.1), 1),
        (use(80.0, 2.0, busy=None), 1),  # nobody can tell
    ],
)
def test_processes_share_what_one_leaves_idle(measured: GpuUse, processes: int) -> None:
    assert processes_that_share(measured) == processes


def test_what_is_measured_decides_and_the_largest_job_counts() -> None:
    sharing = GpuSharing("auto")
    sharing.note_stack("a", use(80.0, 4.0))
    sharing.note_stack("a", use(80.0, 1.0))
    sharing.note_process("b", use(80.0, 2.0, busy=0.3))
    sharing.note_process("b", use(80.0, 2.0, busy=0.1))
    assert (sharing.stacked("a"), sharing.processes("b")) == (17, 3)
    assert (sharing.stacked("other"), sharing.processes("other")) == (MOST_STACKED, 1)


def test_a_number_of_the_users_counts_whatever_is_measured_and_until_memory_is_used_up() -> None:
    sharing = GpuSharing(6)
    sharing.note_process("a", use(80.0, 70.0, busy=1.0))
    assert (sharing.stacked("a"), sharing.processes("a")) == (6, 6)
    assert sharing.note_out_of_memory("a", 6)
    assert (sharing.stacked("a"), sharing.processes("a")) == (3, 3)


def test_memory_that_is_used_up_halves_the_number_once() -> None:
    sharing = GpuSharing("auto")
    assert [sharing.note_out_of_memory("a", 8) for _ in range(3)] == [True, False, False]
    assert sharing.stacked("a") == 4
    assert not sharing.note_out_of_memory("a", 64)  # it began before
    assert sharing.note_out_of_memory("a", 4)
    assert sharing.note_out_of_memory("a", 2)
    assert sharing.stacked("a") == 1
