"""Weights of torchaudio's conformer in asdbench's conformer, to compare the two."""

import re
from collections.abc import Mapping

from torch import Tensor

_TORCHAUDIO = (
    (r"conformer_layers\.(\d+)\.", r"\1."),
    (r"ffn(\d)\.sequential\.0", r"ffn\1.norm"),
    (r"ffn(\d)\.sequential\.1", r"ffn\1.up"),
    (r"ffn(\d)\.sequential\.4", r"ffn\1.down"),
    (r"self_attn_layer_norm", "attention.norm"),
    (r"self_attn\.in_proj_", "attention.qkv."),
    (r"self_attn\.out_proj", "attention.out"),
    (r"conv_module\.layer_norm", "convolution.norm"),
    (r"conv_module\.sequential\.0", "convolution.up"),
    (r"conv_module\.sequential\.2", "convolution.depthwise"),
    (r"conv_module\.sequential\.3", "convolution.batch_norm"),
    (r"conv_module\.sequential\.5", "convolution.down"),
    (r"final_layer_norm", "norm"),
)


def from_torchaudio(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of ``torchaudio.models.Conformer`` with the names and shapes of asdbench's blocks.

    ``conformer.blocks.load_state_dict(from_torchaudio(reference.state_dict()))`` makes the two agree.
    """
    renamed = {}
    for name, value in weights.items():
        for theirs, ours in _TORCHAUDIO:
            name = re.sub(theirs, ours, name)
        pointwise = name.endswith(("convolution.up.weight", "convolution.down.weight"))
        renamed[name] = value.squeeze(2) if pointwise else value
    return renamed
