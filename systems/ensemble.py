"""The weighted mean of other systems' anomaly scores, each standardized on the held-out normal clips.

System 4 of Zhang & Li, "Anomalous sound detection via multitask learning and adversarial learning", DCASE
2023 Challenge, Task 2, technical report. It trains nothing: stored scores of members are reused, and
missing ones are computed. The report does not say which clips it standardizes on and gives no weights; here,
scores are standardized on the hold-out, and the weights are equal by default.

The default members are the report's three systems. ``--preset robust`` takes members that need no other
machine types and no attributes, and that fail on different machines: the autoencoder, and the two controls
that train nothing. docs/systems.md tells how they were chosen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from asdbench.config import Choice, Simplex, tunable
from asdbench.errors import InputError
from asdbench.presets import Preset
from asdbench.system import MemberScores, Scale, System, on_scale


@dataclass(frozen=True)
class Config:
    """Members, their weights (same order, any sum; none for equal weights), what is joined and how."""

    members: tuple[str, ...] = tunable(
        ("multitask-mel", "multitask-combined", "adversarial"), affects="fusion"
    )
    weights: tuple[float, ...] | None = tunable(None, Simplex(of="members"), affects="fusion", minimum=0.0)
    join: str = tunable("scores", Choice("scores", "components"), affects="fusion")
    scale: Scale = tunable("linear", Choice("linear", "log"), affects="fusion")


class Ensemble(System[Config]):
    """The weighted mean of its members' scores, or (``join=components``) of the means of their components.

    Weights apply to members, regardless of the number of components.
    """

    presets = {  # noqa: RUF012 - ClassVar in System
        "robust": Preset(
            {"members": ("baseline-mse", "spectra-gauss", "spectra-knn")}, chosen_on=("shop", "demo")
        ),
    }
    citation = """@techreport{zhang2023anomalous,
  author = {Zhang, Yucong and Li, Ming},
  title = {Anomalous sound detection via multitask learning and adversarial learning},
  institution = {DCASE2023 Challenge},
  year = {2023}
}"""

    @classmethod
    def members(cls, config: Config) -> tuple[str, ...]:
        """Return the members; reject weights of another number, or without a positive one."""
        if config.weights is not None and len(config.weights) != len(config.members):
            raise InputError(
                f"ensemble: weights={','.join(map(str, config.weights))} are {len(config.weights)} weights "
                f"for {len(config.members)} members; give one per member, in the order of 'members'"
            )
        if config.weights is not None and not sum(config.weights):
            raise InputError("ensemble: all weights are 0; give at least one member a positive weight")
        return config.members

    @classmethod
    def combine(cls, config: Config, scores: Mapping[str, MemberScores]) -> dict[str, Tensor]:
        """Return ``mean``, the weighted mean of the members' parts, each on the scale of ``config.scale``.

        A member's part is its standardized score or, with ``join=components``, the mean of its standardized
        components.
        """
        weights = config.weights or (1.0,) * len(config.members)
        total = torch.zeros_like(scores[config.members[0]].score)
        for name, weight in zip(config.members, weights, strict=True):
            member = scores[name]
            parts = [member.score] if config.join == "scores" else list(member.components.values())
            total += weight * on_scale(torch.stack(parts), config.scale).mean(dim=0)
        return {"mean": total / sum(weights)}
