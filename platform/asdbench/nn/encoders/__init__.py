"""Architectures of the published encoders of sound, to be loaded with their published weights.

Each is one file, with the parameter names of its checkpoint. An encoder maps a waveform at 16 kHz to the
tokens of chosen layers (:class:`Encoder`); :func:`load` builds one from a checkpoint. Nothing of a
checkpoint is executed, and there is no dependency on the encoders' own packages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from asdbench.errors import InputError, unknown_name
from asdbench.nn.encoders.beats import Beats
from asdbench.nn.encoders.ced import Ced
from asdbench.nn.encoders.dasheng import Dasheng
from asdbench.nn.encoders.eat import Eat
from asdbench.nn.encoders.echo import Echo
from asdbench.nn.encoders.encoder import Encoder, TokenGrid, band_of_tokens
from asdbench.nn.encoders.speech import Speech

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Encoder",
    "TokenGrid",
    "band_of_tokens",
    "build",
    "load",
    "published_name",
]

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """How the encoder of a published checkpoint is built, and how its parameters are named there.

    Attributes
    ----------
    encoder
        The class of the encoder.
    settings
        The sizes that the checkpoint has.
    prefix
        Beginning of the name of each of the encoder's parameters in the published file.
    unused
        Beginnings of the names of parameters in the published file that the encoder has no use for.
    """

    encoder: Callable[..., Encoder]
    settings: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    unused: tuple[str, ...] = ()


def _ced(dim: int, heads: int) -> Architecture:
    return Architecture(Ced, {"dim": dim, "heads": heads}, prefix="encoder.", unused=("outputlayer.",))


_LARGE = {"dim": 1024, "depth": 24, "heads": 16, "hidden": 4096}
_XLARGE = {"dim": 1280, "depth": 48, "heads": 16, "hidden": 5120}

# By the id of the weights, as in asdbench.weights.records, and torchaudio's other pipelines.
ARCHITECTURES: Mapping[str, Architecture] = {
    "beats-iter3": Architecture(Beats),
    "ced-tiny": _ced(192, 3),
    "ced-mini": _ced(256, 4),
    "ced-small": _ced(384, 6),
    "ced-base": _ced(768, 12),
    "dasheng-base": Architecture(Dasheng, prefix="encoder."),
    "eat-base": Architecture(Eat, prefix="model."),
    "echo-small": Architecture(Echo),
    "wav2vec2-base": Architecture(Speech),
    "wav2vec2-large": Architecture(Speech, _LARGE),
    "wav2vec2-large-lv60k": Architecture(Speech, {**_LARGE, "norm_first": True, "conv_bias": True}),
    "hubert-base": Architecture(Speech),
    "hubert-large": Architecture(Speech, {**_LARGE, "norm_first": True}),
    "hubert-xlarge": Architecture(Speech, {**_XLARGE, "norm_first": True}),
    "wavlm-base": Architecture(Speech, {"wavlm": True}),
    "wavlm-base-plus": Architecture(Speech, {"wavlm": True}),
    "wavlm-large": Architecture(Speech, {**_LARGE, "norm_first": True, "wavlm": True}),
}


def build(architecture: str, **settings: Any) -> Encoder:
    """Return an encoder with random weights.

    Parameters
    ----------
    architecture : a name of ``ARCHITECTURES``
    settings : settings of the encoder's class in place of the published ones, such as ``depth=2``

    Raises
    ------
    InputError
        If there is no such architecture.

    Examples
    --------
    >>> encoder = build("ced-tiny")
    >>> encoder.dim, encoder.depth, encoder.grid(samples=160_000)
    (192, 12, TokenGrid(time=62, frequency=4, token_s=0.16))
    """
    if architecture not in ARCHITECTURES:
        raise unknown_name("encoder architecture", architecture, ARCHITECTURES)
    chosen = ARCHITECTURES[architecture]
    return chosen.encoder(**{**chosen.settings, **settings})


def load(architecture: str, checkpoint: Mapping[str, Any], **settings: Any) -> Encoder:
    """Return an encoder with the weights of a published checkpoint, in evaluation mode and frozen.

    Parameters
    ----------
    architecture : a name of ``ARCHITECTURES``
    checkpoint
        The tensors of the published file by name. Tensors may also stand under ``"model"``, as in the file
        of BEATs.
    settings : settings of the encoder's class in place of the published ones

    Raises
    ------
    InputError
        If names or shapes are not those of the architecture.

    Examples
    --------
    >>> from asdbench.testing.encoders import SMALL, random_state
    >>> encoder = load("eat-base", random_state("eat-base"), **SMALL["eat-base"])
    >>> encoder.training, encoder.depth
    (False, 2)
    """
    encoder = build(architecture, **settings)
    state = _encoder_state(architecture, checkpoint)
    _check(architecture, _shapes(state), _shapes(_published(encoder)))
    encoder.load_state_dict(state, strict=True, assign=True)  # the tensors themselves, not a copy
    return encoder.eval().requires_grad_(False)


def _encoder_state(architecture: str, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the encoder's parameters by their names in the encoder, in float32."""
    names = ARCHITECTURES[architecture]
    tensors = checkpoint["model"] if isinstance(checkpoint.get("model"), Mapping) else checkpoint
    used = {name: value for name, value in tensors.items() if not name.startswith(names.unused or ("\0",))}
    return {
        name.removeprefix(names.prefix): value.float() if value.is_floating_point() else value
        for name, value in used.items()
    }


def _published(encoder: Encoder) -> dict[str, Tensor]:
    """Return the parameters under their names in the checkpoint, without the prefix."""
    return {published_name(name): value for name, value in encoder.state_dict().items()}


def published_name(name: str) -> str:
    """Return the name of an encoder's parameter in its checkpoint, without the prefix.

    Only weight norm differs, whose parameters PyTorch has renamed since.

    Examples
    --------
    >>> published_name("conv.parametrizations.weight.original0")
    'conv.weight_g'
    """
    for number, letter in enumerate("gv"):
        name = name.replace(f"parametrizations.weight.original{number}", f"weight_{letter}")
    return name


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _check(architecture: str, given: Shapes, expected: Shapes) -> None:
    wrong = {
        "lacks": sorted(expected.keys() - given.keys()),
        "also has": sorted(given.keys() - expected.keys()),
        "has other shapes of": sorted(n for n in expected.keys() & given.keys() if expected[n] != given[n]),
    }
    found = [f"{verb} {names[0]} ({len(names)} in all)" for verb, names in wrong.items() if names]
    if found:
        reasons = ", ".join(found)
        raise InputError(
            f"the checkpoint is not one of {architecture!r}: it {reasons}; use the published file"
        )
