"""Pretrained weights of jobs: which ones they need, whether they are there, and passing them to a system.

A job needs the weights that its system reads (:meth:`asdbench.system.System.pretrained`) and those of the
encoder whose stored embeddings it reads. Its results depend on their digests. What is loaded and frozen is
not stored with a trained model: it would be a copy of the weights for each machine type and seed.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor

from asdbench import registry
from asdbench.data import embeddings
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.registry import Configured
from asdbench.system import System
from asdbench.weights import store as weights
from asdbench.weights.records import named


def weights_read(configured: Configured) -> tuple[str, ...]:
    """Return the ids of the weights that a configured system itself reads."""
    return tuple(configured.trainer.system.pretrained(configured.trainer.config))


def weights_needed(configured: Configured) -> tuple[str, ...]:
    """Return the ids of all weights that the results of a configured system depend on, each once."""
    encoder = configured.input_spec.encoder
    return tuple(dict.fromkeys([*weights_read(configured), *([encoder.id] if encoder else [])]))


def weight_digests(configured: Configured, workspace: Workspace) -> dict[str, str]:
    """Return the SHA-256 of all weights that the results of a configured system depend on, by id.

    Raises :class:`InputError` for an unknown id, and for weights that are missing and of no known digest.
    """
    return {one: weights.digest(one, workspace) for one in weights_needed(configured)}


def code_of(configured: Configured) -> str:
    """Return a hash of a system's code, and of that of the encoder whose embeddings it reads, if any."""
    code = registry.source_hash(configured.name)
    reads = not configured.members and configured.input_spec.encoder is not None
    return f"{code}:{embeddings.code()}" if reads else code


def check_weights(systems: Iterable[Configured], workspace: Workspace) -> None:
    """Raise :class:`InputError` that names the weights which are missing, and how to get them.

    So does a layer that an encoder does not have.
    """
    systems = list(systems)
    for configured in systems:
        if (encoder := configured.input_spec.encoder) is not None:
            encoder.counted_layer(named(encoder.id).grid.layers)
    weights.check_installed(workspace, [one for each in systems for one in weights_needed(each)])


def load_pretrained(system: System, configured: Configured, workspace: Workspace) -> None:
    """Pass a trained system its pretrained weights, if it reads any.

    Raises :class:`InputError` if they are missing or damaged.
    """
    ids = weights_read(configured)
    if ids:
        system.load_pretrained({one: weights.load(one, workspace) for one in ids})


def frozen_names(system: System) -> frozenset[str]:
    """Return the names of the parameters that no training changes, which come from pretrained weights."""
    if not type(system).pretrained(system.config):
        return frozenset()
    return frozenset(name for name, value in system.named_parameters() if not value.requires_grad)


def trained_state(system: System) -> dict[str, Tensor]:
    """Return the state of a system that is stored: without what is loaded from pretrained weights again."""
    frozen = frozen_names(system)
    return {name: value for name, value in system.state_dict().items() if name not in frozen}


def share_frozen(system: System, state: Mapping[str, Tensor]) -> None:
    """Let a system's frozen parameters be the tensors in ``state``, so that they are in memory once."""
    for name in frozen_names(system) & state.keys():
        system.get_parameter(name).data = state[name]


def check_exported(digests: Mapping[str, str], configured: Configured, workspace: Workspace) -> None:
    """Raise :class:`InputError` unless the weights that an export refers to are in a data home."""
    check_weights([configured], workspace)
    for one, digest in weight_digests(configured, workspace).items():
        if digests.get(one) != digest:
            raise InputError(
                f"the weights {one!r} in {str(workspace.home)!r} have the SHA-256 {digest[:12]}... and not "
                f"{digests.get(one, 'unknown')[:12]}..., with which this detector was exported; add the "
                f"right file with 'asdbench weights add {one} --from FILE'"
            )
