"""Saved models: the state after training, and the state that a fitted back end adds.

Fitting may change the shape of a back end's buffers (a bank of embeddings, the number of mixture components).
The state after training is therefore loaded only into parameters and buffers of equal shape; the buffers of
the back end are registered afterwards. Parameters that come from pretrained weights are not stored.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.pretrained import frozen_names, load_pretrained, share_frozen
from asdbench.io.workspace import Workspace
from asdbench.registry import Configured
from asdbench.system import System, TrainingFacts

State = Mapping[str, Tensor]


def load_trained(system: System, state: State) -> None:
    """Load the state after training; buffers of another shape stay unchanged, for the back end to fit.

    Frozen pretrained parameters may be missing; those in ``state`` are shared with it, not copied.
    """
    share_frozen(system, state)
    current, frozen = system.state_dict(), frozen_names(system)
    parameters = {name for name, _ in system.named_parameters()}
    fitting = {
        name: value
        for name, value in state.items()
        if name not in frozen and _fits(name, value, current, parameters)
    }
    missing = parameters - fitting.keys() - frozen
    if missing:
        raise ValueError(f"the stored model of {type(system).__name__} has no {sorted(missing)[0]!r}")
    system.load_state_dict(fitting, strict=False)


def load_whole(system: System, state: State) -> None:
    """Load the complete state of an interrupted training, whatever the shapes of its buffers."""
    current = system.state_dict()
    parameters = {name for name, _ in system.named_parameters()}
    load_backend(
        system, {n: v for n, v in state.items() if n not in parameters and not _fits(n, v, current, set())}
    )
    missing = system.state_dict().keys() - state.keys() - frozen_names(system)
    if missing:
        raise ValueError(f"the checkpoint of {type(system).__name__} has no {sorted(missing)[0]!r}")
    system.load_state_dict(state, strict=False)


def _fits(name: str, value: Tensor, current: State, parameters: set[str]) -> bool:
    return name in parameters or (name in current and current[name].shape == value.shape)


def backend_state(system: System, trained: State) -> dict[str, Tensor]:
    """Return the entries of the system's state that ``trained``, its state after training, does not hold."""
    current = {name: value for name, value in system.state_dict().items() if not name.startswith("trained.")}
    return {
        name: value
        for name, value in current.items()
        if name not in trained or trained[name].shape != value.shape or not trained[name].equal(value)
    }


def load_backend(system: System, state: State) -> None:
    """Register a fitted back end's buffers, whatever their shapes."""
    for name, value in state.items():
        module, _, buffer = name.rpartition(".")
        system.get_submodule(module).register_buffer(buffer, value)


def restored(resolved: ResolvedJob, store: JobStore) -> System:
    """Return the scoring system of a scored job, ready to score."""
    return rebuilt(
        resolved.configured,
        resolved.clips.facts,
        *stored_states(resolved, store),
        workspace=resolved.data.workspace,
    )


def stored_states(resolved: ResolvedJob, store: JobStore) -> tuple[State, State]:
    """Return the state of a scored job after training, and what the fitted back end adds."""
    return (
        store.load_tensors(f"{store.training(resolved.training_key)}/model.pt"),
        store.load_tensors(f"{store.scores(resolved.scoring_key)}/backend.pt"),
    )


def rebuilt(
    configured: Configured, facts: TrainingFacts, trained: State, backend: State, *, workspace: Workspace
) -> System:
    """Return a scoring system with these states, ready to score; torch's random state does not change.

    Pretrained weights are read from the data home of ``workspace``.
    """
    with torch.random.fork_rng(devices=[]):
        system = configured.build_trained(facts)
    load_pretrained(system, configured, workspace)
    load_trained(system, trained)
    scorer = configured.build_scorer(system)
    load_backend(scorer, backend)
    return scorer.eval()
