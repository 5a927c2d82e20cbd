"""A tiny encoder with random weights that is registered like a published one, for tests; and a second one.

It is a CED with tokens of length 16 and two layers; the other one has three. Their records and architectures
exist within a ``with`` block only, in this process; on a cluster, take published ids whose checksum is that
of the first file.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from unittest import mock

import torch
from safetensors.torch import save_file

from asdbench.io.workspace import Workspace
from asdbench.nn import encoders
from asdbench.nn.encoders import Architecture
from asdbench.nn.encoders.ced import Ced
from asdbench.weights import records, store
from asdbench.weights.records import License, TokenGrid, WeightsRecord

ID = "tiny-encoder"
OTHER_ID = "tiny-encoder-of-three"

_RECORD = WeightsRecord(
    id=ID,
    mirrors=("http://127.0.0.1:9/tiny", "http://127.0.0.1:9/tiny-again"),
    repository="asdbench/tiny",
    revision="1",
    format="safetensors",
    license=License("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    training_data="none: random numbers",
    grid=TokenGrid(layers=2, dim=16, hop_ms=160.0, bands=4),
)
_DEPTHS = {ID: 2, OTHER_ID: 3}
_RECORDS = {
    one: replace(_RECORD, id=one, grid=replace(_RECORD.grid, layers=depth)) for one, depth in _DEPTHS.items()
}


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """Let the tiny encoders be known within the block."""
    tiny = {one: Architecture(Ced, {"dim": 16, "depth": depth, "heads": 2}) for one, depth in _DEPTHS.items()}
    known = {**encoders.ARCHITECTURES, **tiny}
    with (
        mock.patch.object(encoders, "ARCHITECTURES", known),
        mock.patch.object(records, "RECORDS", MappingProxyType({**records.RECORDS, **_RECORDS})),
    ):
        yield


def random_weights(weights_id: str = ID, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random tensors of a tiny encoder by name; call it within `registered`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: value.detach() for name, value in encoders.build(weights_id).state_dict().items()}


def install(workspace: Workspace, weights_id: str = ID, *, seed: int = 0) -> Path:
    """Put random weights of a tiny encoder into a data home; call it within `registered`."""
    path = store.weights_path(workspace, _RECORDS[weights_id])
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(random_weights(weights_id, seed=seed), path)
    receipt = store.Receipt(
        weights=weights_id,
        sha256=store.sha256_of(path),
        size_bytes=path.stat().st_size,
        source="asdbench.testing",
        obtained="2026-01-01T00:00:00+00:00",
        license=_RECORD.license.name,
        first_use=True,
    )
    store.write_receipt(workspace, receipt)
    return path


@contextlib.contextmanager
def installed(workspace: Workspace) -> Iterator[None]:
    """Let the tiny encoders be known within the block, with random weights in a data home."""
    with registered():
        for one in _RECORDS:
            install(workspace, one)
        yield
