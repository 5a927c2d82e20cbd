"""A sweep on 1 to 1,000 GPUs, simulated from measured parts: where it stops scaling, and why.

The simulation follows the driver: tasks of all machine types of a trial are queued behind the earlier rungs
of other trials, a limited number of trials runs at a time, and ASHA stops trials at two and four
machine types. The scheduler's actor handles one task at a time, Ray Tune one trial, and MLflow's thread one
trial; each of the three keeps a clock of its own. It leaves out failures and workers of unequal speed.

    python benchmarks/scaling.py
"""

import heapq
import itertools
from dataclasses import dataclass, field

import numpy as np

GPUS = (1, 8, 64, 256, 1000)
TYPES, SEEDS = 7, 5
TRIALS = 100  # of each system, in the sweep that a leaderboard asks for
MILLION = 1_000_000 // (TYPES * SEEDS * 5)  # trials of each of five systems that queue 10^6 tasks
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
    scheduler_task_s : time of the scheduler's actor per task
    tune_trial_s : time of Ray Tune per trial
    mlflow_trial_s : time of the thread that records trials
    """

    task_s: dict[str, float]
    start_s: float = 9.0
    copy_s: float = 10.0
    scheduler_task_s: float = 0.0045
    tune_trial_s: float = 0.6
    mlflow_trial_s: float = 0.037


@dataclass
class Trial:
    """A running trial."""

    system: str
    number: int
    last: int  # machine types that it will have finished when it ends
    left: list[int] = field(default_factory=lambda: [SEEDS] * TYPES)


@dataclass(frozen=True)
class Outcome:
    """Result of a sweep.

    Attributes
    ----------
    hours : how long it takes
    useful, wasted : shares of GPU time spent on machine types that a trial had to finish, and on others
    busy : shares of the time in which the scheduler, Ray Tune and MLflow's thread work; at 1, one limits
    """

    hours: float
    useful: float
    wasted: float
    busy: dict[str, float]


class Server:
    """What does one thing at a time."""

    def __init__(self, start_s: float) -> None:
        self.free_s = start_s
        self.busy_s = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """Return when work that arrives now is done."""
        self.free_s = max(self.free_s, now) + seconds
        self.busy_s += seconds
        return self.free_s


def at_a_time(gpus: int) -> int:
    """Return how many trials run at a time, as `asdbench.cluster.experiment.trials_at_a_time` does."""
    return max(min(gpus, 8), -(-gpus // TYPES) + (gpus > 8))


def last_type(number: int, generator: np.random.Generator) -> int:
    """Return how many machine types a trial finishes before ASHA stops it; the untuned one is not stopped."""
    for types, share in STOPS.items():
        if number and generator.random() < share:
            return types
    return TYPES


def simulate(gpus: int, parts: Parts, *, trials: int = TRIALS, seed: int = 0) -> Outcome:
    """Return how long a sweep of so many trials of each system takes."""
    generator = np.random.default_rng(seed)
    start_s = parts.start_s + parts.copy_s
    scheduler, tune, mlflow = (Server(start_s) for _ in range(3))
    order = iter([(name, number) for number in range(trials) for name in parts.task_s])
    waiting: list[tuple[int, int, int, float, Trial]] = []  # rung, number, tie, when it is queued, trial
    running: list[tuple[float, int, int, Trial]] = []  # end, tie, machine type, trial
    tie = itertools.count()
    busy = wasted = 0.0
    clock, free, live = start_s, gpus, 0

    def begin(now: float) -> None:
        nonlocal live
        while live < at_a_time(gpus) and (named := next(order, None)) is not None:
            name, number = named
            trial = Trial(name, number, last_type(number, generator))
            live += 1
            ready = tune.serve(now, parts.tune_trial_s)
            for rung in range(TYPES):
                for _ in range(SEEDS):
                    heapq.heappush(waiting, (rung, number, next(tie), ready, trial))

    begin(clock)
    while waiting or running:
        while waiting and free:
            rung, _, _, ready, trial = heapq.heappop(waiting)
            if trial.last == 0:
                continue  # it was stopped, so its queued tasks are released
            duration = parts.task_s[trial.system] * generator.uniform(0.9, 1.1)
            began = scheduler.serve(max(clock, ready), parts.scheduler_task_s)
            free -= 1
            busy += duration
            wasted += duration if rung >= trial.last else 0.0
            heapq.heappush(running, (began + duration, next(tie), rung, trial))
        if not running:
            break
        end, _, rung, trial = heapq.heappop(running)
        clock, free = max(clock, end), free + 1
        trial.left[rung] -= 1
        if trial.last and all(count == 0 for count in trial.left[: trial.last]):
            trial.last = 0
            live -= 1
            mlflow.serve(clock, parts.mlflow_trial_s)
            begin(clock)
    total = max(clock, mlflow.free_s)
    servers = {"scheduler": scheduler, "Ray Tune": tune, "MLflow": mlflow}
    return Outcome(
        total / 3600,
        (busy - wasted) / (gpus * total),
        wasted / (gpus * total),
        {name: server.busy_s / total for name, server in servers.items()},
    )


def main() -> None:
    for trials, speedup in ((TRIALS, 1), (TRIALS, 30), (MILLION, 30)):
        parts = Parts({name: seconds / speedup for name, seconds in MEASURED_S.items()})
        lengths = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in parts.task_s.items())
        print(f"{trials * TYPES * SEEDS * len(parts.task_s):,} tasks at most; {lengths}")
        print("  GPUs    hours   useful   wasted  scheduler  Ray Tune  MLflow")
        for gpus in GPUS:
            outcome = simulate(gpus, parts, trials=trials)
            busy = "  ".join(f"{share:8.0%}" for share in outcome.busy.values())
            print(
                f"{gpus:6d} {outcome.hours:8.2f} {outcome.useful:8.0%} {outcome.wasted:8.0%} {busy}",
                flush=True,
            )


if __name__ == "__main__":
    main()
