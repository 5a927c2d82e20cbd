"""CPU seconds of the nearest-neighbor back ends and of the controls, on one thread.

Back ends: 1,000 references and 200 queries of 768 dimensions, fit and scores. Controls: all machine types of
a registered data set from its recordings, in a home of their own, that is with the spectrograms.

    python benchmarks/bench_controls.py --data shop
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from asdbench.backends import DensityNormalizedNeighbors, NearestNeighbors, VarianceMinimizingNeighbors
from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.io.workspace import Workspace
from asdbench.testing.conformance import run_job

REFERENCES, QUERIES, DIMENSIONS = 1_000, 200, 768
REPETITIONS = 5


def neighbors():
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(REFERENCES, DIMENSIONS, generator=generator)
    queries = torch.randn(QUERIES, DIMENSIONS, generator=generator)
    target, clip = torch.arange(REFERENCES) >= REFERENCES - 10, torch.arange(REFERENCES)
    for kind in (NearestNeighbors, DensityNormalizedNeighbors, VarianceMinimizingNeighbors):
        fits, scores = [], []
        for _ in range(REPETITIONS):
            backend, start = kind(), time.process_time()
            backend.fit(references, target, clip=clip, seed=0)
            middle = time.process_time()
            backend.score(queries)
            fits.append(middle - start)
            scores.append(time.process_time() - middle)
        print(f"{kind.__name__}: fit {min(fits):.3f} s, scores {min(scores):.3f} s")


def controls(data):
    root = catalog.load(Workspace.from_environment(), data).root
    with tempfile.TemporaryDirectory() as home:
        workspace = Workspace.from_home(Path(home))
        registered = catalog.add(workspace, data, root)
        for system in ("spectra-gauss", "spectra-knn"):
            wall, start = time.perf_counter(), time.process_time()
            for machine_type in registered.machine_types:
                run_job(Job(system, {}, data, machine_type, 0), workspace, JobStore.from_workspace(workspace))
            spent = time.process_time() - start
            print(
                f"{system} on {data}: {spent:.1f} s of CPU, {time.perf_counter() - wall:.1f} s on the clock"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a registered data set")
    given = parser.parse_args()
    torch.set_num_threads(1)
    neighbors()
    if given.data:
        controls(given.data)
