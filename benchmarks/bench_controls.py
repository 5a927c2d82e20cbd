"""CPU seconds of the back ends and of the controls, on one thread.

Back ends: 1,000 references and 200 queries of 768 dimensions, fit and scores; and how many times faster they
score batches of 64 of the queries than float64 products that are prepared in every call, and than a mixture
whose two scores are computed apart. Controls: all machine types of a registered data set from its recordings,
in a home of their own, that is with the spectrograms.

    python benchmarks/bench_controls.py --data shop
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch.nn.functional import normalize

from asdbench.backends import (
    DensityNormalizedNeighbors,
    GaussianMixture,
    NearestNeighbors,
    VarianceMinimizingNeighbors,
)
from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job
from asdbench.io.workspace import Workspace
from asdbench.testing.conformance import run_job

REFERENCES, QUERIES, DIMENSIONS = 1_000, 200, 768
BATCH = 64  # windows of 256 frames in a scoring batch of a CPU
MIXTURE_DIMENSIONS = 128
REPETITIONS = 5


def embeddings(dimensions=DIMENSIONS):
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(REFERENCES, dimensions, generator=generator)
    target, clip = torch.arange(REFERENCES) >= REFERENCES - 10, torch.arange(REFERENCES)
    return references, target, clip, torch.randn(QUERIES, dimensions, generator=generator)


def neighbors():
    references, target, clip, queries = embeddings()
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


def float64_distances(queries, references, spacing=None):
    """Return the distance to the nearest reference by a float64 product, prepared in this call."""
    queries, references = (normalize(v.double(), dim=1, eps=1e-300) for v in (queries, references))
    center = references.mean(dim=0)
    centered, shifted = references - center, queries - center
    cost = torch.addmm(centered.square().sum(dim=1), shifted, centered.T, alpha=-2)
    if spacing is not None:
        cost = (cost + shifted.square().sum(dim=1, keepdim=True)) / spacing
    near = cost.topk(9, dim=1, largest=False, sorted=False).indices
    squared = (queries[:, None] - references[near]).square().sum(dim=2)
    return (squared if spacing is None else squared / spacing[near]).amin(dim=1) / 2


def float64_neighbors(backend, queries):
    parts = (backend.source, backend.target)
    return torch.stack([float64_distances(queries, part) for part in parts]).amin(dim=0)


def float64_density(backend, queries):
    return float64_distances(queries, backend.references, backend.spacing)


def ratios():
    for kind, dimensions, before, after in (
        (NearestNeighbors, DIMENSIONS, float64_neighbors, NearestNeighbors.score),
        (DensityNormalizedNeighbors, DIMENSIONS, float64_density, DensityNormalizedNeighbors.score),
        (
            GaussianMixture,
            MIXTURE_DIMENSIONS,
            lambda mixture, some: (mixture.score(some), mixture.score_with_max(some)[1])[0],
            lambda mixture, some: mixture.score_with_max(some)[0],
        ),
    ):
        references, target, clip, queries = embeddings(dimensions)
        backend = kind()
        backend.fit(references, target, clip=clip, seed=0)
        seconds = {before: [], after: []}
        parts = queries.split(BATCH)
        scores = {score: torch.cat([score(backend, some) for some in parts]) for score in seconds}
        torch.testing.assert_close(scores[after], scores[before], rtol=1e-9, atol=1e-14)
        for _ in range(REPETITIONS * 4):  # in turn, so that other work on the machine meets both
            for score, spent in seconds.items():
                start = time.process_time()
                for some in parts:
                    score(backend, some)
                spent.append(time.process_time() - start)
        ratio = min(seconds[before]) / min(seconds[after])
        print(f"{kind.__name__}: scores in batches of {BATCH} {ratio:.1f} times as fast as before")


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
    ratios()
    if given.data:
        controls(given.data)
