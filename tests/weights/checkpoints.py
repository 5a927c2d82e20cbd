"""Small random checkpoints with the names of real ones, and records of them."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from asdbench.weights.records import WeightsRecord, named


def ced_tensors(*, seed: int = 0) -> dict[str, Tensor]:
    """Return a few tensors named as those of CED, with the classifier that is left out."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "encoder.init_bn.weight": torch.randn(64, generator=generator),
        "encoder.blocks.0.attn.qkv.weight": torch.randn(96, 32, generator=generator),
        "outputlayer.0.weight": torch.randn(32, generator=generator),
    }


def ced_bytes(*, seed: int = 0) -> bytes:
    """Return a safetensors file of :func:`ced_tensors`."""
    return save(ced_tensors(seed=seed))


def beats_bytes(*, seed: int = 0) -> bytes:
    """Return a checkpoint as that of BEATs: settings and tensors."""
    generator = torch.Generator().manual_seed(seed)
    written = io.BytesIO()
    tensors = {"patch_embedding.weight": torch.randn(8, 1, 4, 4, generator=generator)}
    torch.save({"cfg": {"encoder_layers": 12}, "model": tensors}, written)
    return written.getvalue()


def record_of(
    content: bytes, *mirrors: str, known: bool = True, weights_id: str = "ced-tiny"
) -> WeightsRecord:
    """Return the record of an id with another content, whose checksum and size are ``known`` or not."""
    return replace(
        named(weights_id),
        mirrors=mirrors or named(weights_id).mirrors,
        sha256=hashlib.sha256(content).hexdigest() if known else None,
        size_bytes=len(content) if known else None,
    )


def written(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.write_bytes(content)
    return path
