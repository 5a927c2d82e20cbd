"""A sweep on 1 to 256 GPUs, simulated from measured parts: where it stops scaling, and why.

What is simulated is the queue as it is: works of all machine types of a trial are queued behind the earlier
rungs of other trials, a limited number of trials at a time, ASHA at two and four types, waiting works of a
stopped trial taken back, and a driver that does one thing at a time. What is not: failures, and workers of
unequal speed.

    python benchmarks/scaling.py
"""

import heapq
import itertools
from dataclasses import dataclass, field

import numpy as np

GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TYPES, SEEDS, TRIALS = 7, 5, 100
STOPS = {2: 0.5, 4: 0.5}  # machine types finished: share of trials that ASHA stops there
MEASURED_S = {  # a work with --preset fast on one core of two, real recordings, median
    "baseline-mse": 64.0,
    "baseline-maha": 64.0,
    "multitask-mel": 220.0,
    "multitask-combined": 348.0,
    "adversarial": 283.0,
}


@dataclass(frozen=True)
class Parts:
    """What was measured, in seconds unless it says otherwise; `docs/scaling.md` says how.

    Attributes
    ----------
    works_s : training and scoring of one work by system, one worker
    start_s : from the command to the first step of the first worker
    copy_s : bringing a data set's Arrow files to a node
    driver_work_s, driver_trial_s : time of the driver for a finished work and for a trial
    """

    works_s: dict[str, float]
    start_s: float = 24.0
    copy_s: float = 10.0
    driver_work_s: float = 0.02
    driver_trial_s: float = 0.3


@dataclass
class Trial:
    """A trial under way."""

    system: str
    number: int
    last: int  # types that it will have finished when it ends
    left: list[int] = field(default_factory=lambda: [SEEDS] * TYPES)


@dataclass(frozen=True)
class Outcome:
    """How a sweep went: hours, and the share of the GPUs' time in works that counted and in works in vain."""

    hours: float
    useful: float
    in_vain: float


def simulate(gpus: int, parts: Parts, *, seed: int = 0) -> Outcome:
    """Return how long a sweep of `TRIALS` trials of each system takes."""
    generator = np.random.default_rng(seed)
    at_a_time = max(min(gpus, 8), -(-gpus // TYPES) + (gpus > 8))
    names = list(parts.works_s)
    order = [(name, number) for number in range(TRIALS) for name in names]
    waiting: list[tuple[int, int, int, Trial]] = []  # rung, number of the trial, tie, trial
    running: list[tuple[float, int, int, Trial]] = []  # end, tie, machine type, trial
    tie = itertools.count()
    clock = driver = parts.start_s + parts.copy_s
    busy = vain = 0.0
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
                continue  # it was stopped: taken back
            duration = parts.works_s[trial.system] * generator.uniform(0.9, 1.1)
            free -= 1
            busy += duration
            vain += duration if rung >= trial.last else 0.0
            heapq.heappush(running, (clock + duration, next(tie), rung, trial))
        if not running:
            break
        end, _, rung, trial = heapq.heappop(running)
        free += 1
        driver = max(driver, end) + parts.driver_work_s
        clock = max(clock, end)
        trial.left[rung] -= 1
        if trial.last and all(count == 0 for count in trial.left[: trial.last]):
            trial.last = 0
            live -= 1
            driver = begin(driver)
            clock = max(clock, driver if not waiting else clock)
    total = max(clock, driver)
    return Outcome(total / 3600, (busy - vain) / (gpus * total), vain / (gpus * total))


def main() -> None:
    for said, faster in (("works as long as on one CPU core", 1), ("works thirty times as fast", 30)):
        parts = Parts({name: seconds / faster for name, seconds in MEASURED_S.items()})
        print(f"{said}: {', '.join(f'{name} {of:.0f} s' for name, of in parts.works_s.items())}")
        print("  GPUs    hours   useful  in vain")
        for gpus in GPUS:
            outcome = simulate(gpus, parts)
            print(f"{gpus:6d} {outcome.hours:8.2f} {outcome.useful:8.0%} {outcome.in_vain:8.0%}")


if __name__ == "__main__":
    main()
