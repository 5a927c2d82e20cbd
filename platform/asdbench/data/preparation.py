"""From a batch as it is stored to one that a system reads, on the device of both."""

from collections.abc import Mapping

from torch import Tensor, nn

from asdbench.data.clip_windows import FULL_SCALE, Standardization, crop_samples
from asdbench.data.raw_batch import RawBatch
from asdbench.features.augment import ON_WAVEFORM, mask_windows, transformed
from asdbench.features.mel import log_mel_of_padded
from asdbench.spec import MelSpec
from asdbench.system import ClipBatch


class BatchPreparation(nn.Module):
    """Puts rows through their transforms, and turns raw batches into numbers that a system reads.

    Its constants are buffers, so that ``.to(device)`` moves them. Nothing waits for the device, and no shape
    depends on what was drawn.

    Parameters
    ----------
    mel
        Parameters of the spectrograms.
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
    >>> BatchPreparation(MelSpec(n_mels=3), statistics)(raw).windows[0, 0]
    tensor([1., 1., 1.])
    """

    def __init__(
        self,
        mel: MelSpec,
        standardization: Standardization | None = None,
        feature_standardizations: Mapping[str, Standardization] | None = None,
    ) -> None:
        super().__init__()
        self._mel = mel
        self.windows = _ZScores(standardization)
        named = dict(feature_standardizations or {})
        self._names = tuple(named)
        self.features = nn.ModuleList(map(_ZScores, named.values()))

    def forward(self, raw: RawBatch) -> ClipBatch:
        """Return the batch of a raw one on the same device."""
        features = {name: windows.float() for name, windows in raw.features.items()}
        for name, z_scores in zip(self._names, self.features, strict=True):
            features[name] = z_scores(features[name], raw.machine)
        windows, waveform = self._windows(raw) if raw.rows is None else self._transformed(raw, raw.rows)
        return ClipBatch(
            windows=windows,
            clip=raw.clip,
            n_clips=raw.n_clips,
            machine=raw.machine,
            section=raw.section,
            domain=raw.domain,
            attributes=raw.attributes,
            group=raw.group,
            row_keys=raw.row_keys,
            augmentation=raw.augmentation,
            waveform=waveform,
            encoded=None if raw.encoded is None else raw.encoded.float(),
            second_waveform=_full_scale(raw.second_samples),
            features=features,
            supplemental=raw.supplemental,
            pseudo_label=raw.pseudo_label,
            own_rows=raw.own_rows,
        )

    def _windows(self, raw: RawBatch) -> tuple[Tensor, Tensor | None]:
        return self.windows(raw.windows.float(), raw.machine), _full_scale(raw.samples)

    def _transformed(self, raw: RawBatch, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return windows and waveforms of all rows, each after its transform.

        Spectrograms of changed waveforms are rounded as those that are stored. Slots that no row takes write
        to one more row, which is cut off.
        """
        n_rows, length = len(raw.machine), crop_samples(self._mel, raw.windows.shape[1])
        windows, waveform = _placed(raw.windows.float(), rows, n_rows), _full_scale(raw.samples)
        waveform = None if waveform is None else _placed(waveform, rows, n_rows)
        for group in raw.groups:
            if group.transform in ON_WAVEFORM:
                crops = transformed(raw.contexts[group.transform], group, length)
                windows.index_copy_(0, group.rows, log_mel_of_padded(crops, self._mel).half().float())
                if waveform is not None:
                    waveform.index_copy_(0, group.rows, crops)
        self.windows(windows[:n_rows], raw.machine)
        for group in raw.groups:
            if group.transform not in ON_WAVEFORM:
                mask_windows(windows, group)
        return windows[:n_rows], None if waveform is None else waveform[:n_rows]


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


def _placed(values: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """Return a tensor with the values at their rows and room for all others, and one more row."""
    return values.new_empty(n_rows + 1, *values.shape[1:]).index_copy_(0, rows, values)


def _full_scale(samples: Tensor | None) -> Tensor | None:
    """Return 16-bit samples as numbers of full scale 1."""
    return None if samples is None else samples.float().mul_(1 / FULL_SCALE)
