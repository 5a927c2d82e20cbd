"""Files with the names of the published ones load into the architecture that goes by their id."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from asdbench.nn import encoders
from asdbench.testing.encoders import SMALL, random_state
from asdbench.weights.records import RECORDS, WeightsRecord, named
from asdbench.weights.tensors import read_tensors


def written(folder: Path, record: WeightsRecord, state: dict[str, Tensor]) -> Path:
    """Write a checkpoint in the format of a record and return its path."""
    path = folder / record.file_name
    if record.format == "safetensors":
        save_file(state, path)
    else:
        torch.save({"cfg": {"encoder_layers": 2}, record.root: state} if record.root else state, path)
    return path


@pytest.mark.parametrize("weights_id", RECORDS)
def test_a_file_of_weights_loads_into_its_architecture(tmp_path: Path, weights_id: str) -> None:
    path = written(tmp_path, named(weights_id), random_state(weights_id))
    encoder = encoders.load(weights_id, read_tensors(path, named(weights_id)), **SMALL[weights_id])
    expected = encoders.load(weights_id, random_state(weights_id), **SMALL[weights_id])
    waveform = torch.linspace(-1, 1, 8_000)[None]
    assert torch.equal(encoder(waveform, [2])[0], expected(waveform, [2])[0])


def test_a_file_of_published_size_loads(tmp_path: Path) -> None:
    path = written(tmp_path, named("ced-tiny"), random_state("ced-tiny", small=False))
    encoder = encoders.load("ced-tiny", read_tensors(path, named("ced-tiny")))
    (tokens,) = encoder(torch.linspace(-1, 1, 8_000)[None], [12])
    assert tokens.shape == (1, encoder.grid(8_000).tokens, named("ced-tiny").grid.dim)
