"""A sweep on 1 to 256 GPUs, simulated from measured parts: where it stops scaling, and why.

The simulation follows the scheduler: tasks of all machine types of a trial are queued behind the earlier
rungs of other trials, a limited number of trials runs at a time, ASHA stops trials at two and four machine
types, the queued tasks of a stopped trial are canceled, and the driver does one thing at a time. It leaves
out failures and workers of unequal speed.

    python benchmarks/scaling.py
"""

import heapq
import itertools
from dataclasses import dataclass, field

import numpy as np

GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TYPES, SEEDS, TRIALS = 7, 5, 100
STOPS = {2: 0.5, 4: 0.5}  # machine types finished: share of trials that ASHA stops there
MEASURED_S = {  # a task with --preset fast on one core of two, real recordings, median
    "baseline-mse": 64.0,
    "baseline-maha": 64.0,
    "multitask-mel": 220.0,
    "multitask-combined": 348.0,
    "adversarial": 283.0,
}


@dataclass(frozen=True)
class Parts:
    """Measured times in seconds; `docs/scaling.md` says how each was measured.

    Attributes
    ----------
    task_s : training and scoring of one task by system, one worker
    start_s : from the command to the first step of the first worker
    copy_s : copying a data set's Arrow files to a node
    driver_task_s, driver_trial_s : time of the driver per finished task and per trial
    """

    task_s: dict[str, float]
    start_s: float = 24.0
    copy_s: float = 10.0
    driver_task_s: float = 0.02
    driver_trial_s: float = 0.3


@dataclass
class Trial:
    """A running trial."""

    system: str
    number: int
    last: int  # machine types that it will have finished when it ends
    left: list[int] = field(default_factory=lambda: [SEEDS] * TYPES)


@dataclass(frozen=True)
class Outcome:
    """Result of a sweep: hours, and the shares of GPU time that were useful and wasted."""

    hours: float
    useful: float
    wasted: float


def simulate(gpus: int, parts: Parts, *, seed: int = 0) -> Outcome:
    """Return how long a sweep of `TRIALS` trials of each system takes."""
    generator = np.random.default_rng(seed)
    at_a_time = max(min(gpus, 8), -(-gpus // TYPES) + (gpus > 8))
    names = list(parts.task_s)
    order = [(name, number) for number in range(TRIALS) for name in names]
    waiting: list[tuple[int, int, int, Trial]] = []  # rung, number of the trial, tie, trial
    running: list[tuple[float, int, int, Trial]] = []  # end, tie, machine type, trial
    tie = itertools.count()
    clock = driver = parts.start_s + parts.copy_s
    busy = wasted = 0.0
    free, live = gpus, 0

    def begin(now: float) -> float:
        nonlocal live
        while order and live < at_a_time:
            name, number = order.pop(0)
            last = TYPES
            for types, share in STOPS.items():
                if number and generator.random() < share:
                    last = types
                    break
            trial = Trial(name, number, last)
            live += 1
            now += parts.driver_trial_s
            for rung in range(TYPES):
                for _ in range(SEEDS):
                    heapq.heappush(waiting, (rung, number, next(tie), trial))
        return now

    driver = begin(driver)
    clock = driver
    while waiting or running:
        while waiting and free:
            rung, _, _, trial = heapq.heappop(waiting)
            if trial.last == 0:
                continue  # it was stopped, so its queued tasks are canceled
            duration = parts.task_s[trial.system] * generator.uniform(0.9, 1.1)
            free -= 1
            busy += duration
            wasted += duration if rung >= trial.last else 0.0
            heapq.heappush(running, (clock + duration, next(tie), rung, trial))
        if not running:
            break
        end, _, rung, trial = heapq.heappop(running)
        free += 1
        driver = max(driver, end) + parts.driver_task_s
        clock = max(clock, end)
        trial.left[rung] -= 1
        if trial.last and all(count == 0 for count in trial.left[: trial.last]):
            trial.last = 0
            live -= 1
            driver = begin(driver)
            clock = max(clock, driver if not waiting else clock)
    total = max(clock, driver)
    return Outcome(total / 3600, (busy - wasted) / (gpus * total), wasted / (gpus * total))


def main() -> None:
    for title, speedup in (("tasks as long as on one CPU core", 1), ("tasks thirty times as fast", 30)):
        parts = Parts({name: seconds / speedup for name, seconds in MEASURED_S.items()})
        print(f"{title}: {', '.join(f'{name} {seconds:.0f} s' for name, seconds in parts.task_s.items())}")
        print("  GPUs    hours   useful   wasted")
        for gpus in GPUS:
            outcome = simulate(gpus, parts)
            print(f"{gpus:6d} {outcome.hours:8.2f} {outcome.useful:8.0%} {outcome.wasted:8.0%}")


if __name__ == "__main__":
    main()
