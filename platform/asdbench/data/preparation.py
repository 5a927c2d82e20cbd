"""From a batch as it is stored to one that a system reads, on the device of both."""

from collections.abc import Mapping

from torch import Tensor, nn

from asdbench.data.clip_windows import FULL_SCALE, Standardization
from asdbench.data.raw_batch import RawBatch
from asdbench.system import ClipBatch


class BatchPreparation(nn.Module):
    """Turns raw batches into batches of floating-point numbers, z-scores where the system wants them.

    Its constants are buffers, so that ``.to(device)`` moves them. Nothing waits for the device.

    Parameters
    ----------
    standardization
        Statistics of the mel bins, Float[Tensor, "machine mel"], if the system wants z-scores; those of a
        single machine type hold for all rows, pseudo-anomalies too.
    feature_standardizations
        The same for each further spectrogram.

    Examples
    --------
    >>> import torch
    >>> zeros = torch.zeros(1, dtype=torch.long)
    >>> raw = RawBatch(torch.full((1, 2, 3), 7.0).half(), zeros, 1, machine=zeros, section=zeros)
    >>> statistics = Standardization(torch.full((1, 3), 5.0), torch.full((1, 3), 2.0))
    >>> BatchPreparation(statistics)(raw).windows[0, 0]
    tensor([1., 1., 1.])
    """

    def __init__(
        self,
        standardization: Standardization | None = None,
        feature_standardizations: Mapping[str, Standardization] | None = None,
    ) -> None:
        super().__init__()
        self.windows = _ZScores(standardization)
        named = dict(feature_standardizations or {})
        self._names = tuple(named)
        self.features = nn.ModuleList(map(_ZScores, named.values()))

    def forward(self, raw: RawBatch) -> ClipBatch:
        """Return the batch of a raw one on the same device."""
        features = {name: windows.float() for name, windows in raw.features.items()}
        for name, z_scores in zip(self._names, self.features, strict=True):
            features[name] = z_scores(features[name], raw.machine)
        return ClipBatch(
            windows=self.windows(raw.windows.float(), raw.machine),
            clip=raw.clip,
            n_clips=raw.n_clips,
            machine=raw.machine,
            section=raw.section,
            domain=raw.domain,
            attributes=raw.attributes,
            group=raw.group,
            row_keys=raw.row_keys,
            augmentation=raw.augmentation,
            waveform=_full_scale(raw.samples),
            encoded=None if raw.encoded is None else raw.encoded.float(),
            second_waveform=_full_scale(raw.second_samples),
            features=features,
            supplemental=raw.supplemental,
            pseudo_label=raw.pseudo_label,
            own_rows=raw.own_rows,
        )


class _ZScores(nn.Module):
    """Turns windows in dB into z-scores by the statistics of their machine types, in place."""

    mean: Tensor | None
    deviation: Tensor | None

    def __init__(self, of_machines: Standardization | None) -> None:
        super().__init__()
        self.register_buffer("mean", None if of_machines is None else of_machines.mean)
        self.register_buffer("deviation", None if of_machines is None else of_machines.deviation)

    def forward(self, windows: Tensor, machine: Tensor) -> Tensor:
        if self.mean is None or self.deviation is None:
            return windows
        if len(self.mean) == 1:
            return Standardization(self.mean[0], self.deviation[0]).apply_(windows)
        of_rows = (values.index_select(0, machine).unsqueeze(1) for values in (self.mean, self.deviation))
        return Standardization(*of_rows).apply_(windows)


def _full_scale(samples: Tensor | None) -> Tensor | None:
    """Return 16-bit samples as numbers of full scale 1."""
    return None if samples is None else samples.float().mul_(1 / FULL_SCALE)
