"""A check after each scoring: a clip scored alone has the score that it has among the others.

Test clips arrive in batches, so code that takes statistics over a batch, or carries them from one batch to
the next, adapts to the test set, which no detector in use has. A handful of clips, drawn at random, is scored
again: one by one, in another order, by a model that is loaded from what is stored and has seen no clip, with
the system's modules as they were before the fit.

A difference counts if it is more than a hundredth of the distance between the quartiles of the component's
scores, and more than a few units in the last place of float32. Kernels of matrix products and convolutions
differ with the size of a batch; what they change is below a ten-thousandth of that distance for the systems
of this repository on a CPU, and TF32 on a GPU leaves a factor for more. What is smaller changes the order of
few clips: the AUC by less than half a point, even if every change were for the better. Quartiles, since one
extreme score would widen a standard deviation at will.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from asdbench.data.loader import JobData
from asdbench.engine.fit_check import loaded_system
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.module_state import ModuleState
from asdbench.engine.state import State
from asdbench.engine.system_output import checked_components
from asdbench.errors import InputError
from asdbench.system import System

N_TEST, N_HOLD_OUT = 6, 2  # clips that are scored again
_SPREAD_SHARE = 0.01  # of the distance between the quartiles
_ULPS = 16  # of float32, about the score: where all scores are nearly equal, only rounding tells them apart
_ROUNDED_SHARE = 0.05  # at most, of the same distance: a constant that is added to all scores excuses no more
_LEAST_ULPS = 2


def check_single_clips(
    fitted: System,
    resolved: ResolvedJob,
    trained: State,
    backend: State,
    components: pl.DataFrame,
    *,
    modules: ModuleState,
    device: torch.device,
) -> None:
    """Score a handful of clips one by one; nothing is checked of a system that is ``transductive``.

    Parameters
    ----------
    fitted : the scoring system after `fit_backend`
    resolved : its job
    trained : the state after training
    backend : the state that the fit has added
    components : the scores to check, as in `asdbench.engine.scoring.ClipScores`
    modules : the state of the system's modules before the fit
    device : where the system is

    Raises
    ------
    InputError
        A component of a clip differs; the message says what to do.
    """
    if type(fitted).transductive:
        return
    clips = resolved.clips
    ids = _drawn_ids(clips, resolved.scoring_key)
    with modules.restored():
        system = loaded_system(fitted, resolved, trained, backend).to(device).eval()
        alone = _scored_alone(system, clips, ids, device)
    together = pl.DataFrame({"clip_id": ids}).join(components, on="clip_id", maintain_order="left")
    for name, values in alone.items():
        check_component(type(fitted), name, values, together[name].to_numpy(), components[name].to_numpy())


def _drawn_ids(clips: JobData, key: str) -> list[int]:
    """Return the ids of the clips that are scored again, in random order; equal for equal keys.

    The hold-out of a cross-fitting is scored by other fits, so that only test clips are drawn.
    """
    generator = np.random.default_rng(list(key.encode()))
    hold_out = clips.hold_out_ids[:0] if clips.n_folds else clips.hold_out_ids
    drawn = [
        generator.choice(ids, min(count, len(ids)), replace=False)
        for ids, count in ((clips.test_ids, N_TEST), (hold_out, N_HOLD_OUT))
        if len(ids)
    ]
    ids: list[int] = generator.permutation(np.concatenate(drawn)).tolist() if drawn else []
    return ids


def _scored_alone(
    system: System, clips: JobData, ids: Sequence[int], device: torch.device
) -> dict[str, NDArray[np.float64]]:
    parts: dict[str, list[torch.Tensor]] = {}
    with torch.inference_mode():
        for clip_id in ids:
            for batch in clips.scoring_batches([clip_id]):
                scores = system.components(batch.to(device))
                for name, values in checked_components(system, "components", scores, batch.n_clips).items():
                    parts.setdefault(name, []).append(values)
    return {name: torch.cat(values).numpy() for name, values in parts.items()}


def check_component(
    system: type[System],
    name: str,
    alone: NDArray[np.float64],
    together: NDArray[np.float64],
    every: NDArray[np.float64],
) -> None:
    """Raise :class:`InputError` if the scores of a component differ by more than rounding.

    Parameters
    ----------
    system, name : the system and the name of the component
    alone, together : scores of some clips, each scored alone and among the others, shape (clip,)
    every : all scores of the component

    Examples
    --------
    >>> every = np.arange(100.0)
    >>> check_component(System, "distance", every[:3] + 1e-3, every[:3], every)
    >>> check_component(System, "distance", every[:3] + [0, 0, 5], every[:3], every)
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: System: component 'distance' of 1 of 3 clips that were scored again one by \
one, in another order, differs from what it is among the other clips, by up to 10 % of the distance between \
the quartiles of all scores. A clip's score must follow from the clip alone: take no statistics over a batch \
or over earlier batches, and give torch.cdist compute_mode='donot_use_mm_for_euclid_dist'. If the method \
needs the other test clips, set transductive = True on the class; its results are then marked as transductive
    """
    low, high = np.quantile(every, [0.25, 0.75])
    ulp = np.finfo(np.float32).eps * np.abs(together)
    rounding = np.minimum(_ULPS * ulp, np.maximum(_ROUNDED_SHARE * (high - low), _LEAST_ULPS * ulp))
    differs = np.abs(alone - together) > np.maximum(_SPREAD_SHARE * (high - low), rounding)
    if differs.any():
        worst = np.abs(alone - together).max()
        spread = "the distance between the quartiles of all scores"
        share = f", by up to {100 * worst / (high - low):.2g} % of {spread}" if high > low else ""
        raise InputError(
            f"{system.__name__}: component {name!r} of {differs.sum()} of {len(alone)} clips that were "
            f"scored again one by one, in another order, differs from what it is among the other clips"
            f"{share}. A clip's score must follow from the clip alone: take no "
            f"statistics over a batch or over earlier batches, and give torch.cdist "
            f"compute_mode='donot_use_mm_for_euclid_dist'. If the method needs the other test clips, set "
            f"transductive = True on the class; its results are then marked as transductive"
        )
