"""One back end for each frequency band of an embedding, and the mean of their scores.

Each band finds its own references: a clip may be like one training clip at low frequencies and like another
one at high frequencies. Cosine distances within a band do not depend on how loud the band is, so no loud band
outweighs the others. Source: P. Saengthong and T. Shinozaki, "Sub-Band Spectral Matching with Localized Score
Aggregation for Robust Anomalous Sound Detection" (BEAM), 2026, arXiv:2603.13749:

    s(x) = 1/F Σ_f min_i d(x_f, y_if),    d: cosine distance, y_i: reference i.

With a back end that normalizes distances, each band is normalized on its own before the mean.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from asdbench.backends.backend import Backend, FromBuffers
from asdbench.errors import InputError


class BandBackends(FromBuffers):
    """Back ends of one kind for the bands of embeddings; their number is that of the bands of the fit.

    All state is in buffers, each that of the bands' back ends, stacked: Float[Tensor, "band ..."].

    Parameters
    ----------
    make
        Returns a new back end, such as :class:`~asdbench.backends.NearestNeighbors`.

    Examples
    --------
    >>> from asdbench.backends import NearestNeighbors
    >>> low_high = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])  # 2 clips, 2 bands
    >>> bands = BandBackends(NearestNeighbors)
    >>> bands.fit(low_high, torch.tensor([False, False]), seed=0)
    >>> bands.score(torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])).tolist()  # low of clip 0, high of clip 1
    [0.0]
    """

    def __init__(self, make: Callable[[], Backend]) -> None:
        super().__init__()
        self._make = make
        for name, _ in make().named_buffers():
            self.register_buffer(name, torch.empty(0))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, target: Tensor, *, seed: int) -> None:
        """Fit each band's back end to training normals.

        Parameters
        ----------
        embeddings : Float[Tensor, "clip band dim"]
        target : Bool[Tensor, "clip"], true in the target domain
        seed : seed of the random numbers of each fit

        Raises
        ------
        InputError
            There is no clip, or an embedding is not finite.
        """
        clip = torch.arange(len(embeddings), device=embeddings.device)
        fitted = []
        for band in embeddings.unbind(dim=1):
            backend = self._make()
            backend.fit(band, target, clip=clip, seed=seed)
            fitted.append(dict(backend.named_buffers()))
        for name in fitted[0]:
            self.register_buffer(name, torch.stack([of_band[name] for of_band in fitted]))

    @torch.no_grad()
    def score(self, embeddings: Tensor) -> Tensor:
        """Return the mean of the bands' scores, Float64[Tensor, "clip"].

        Parameters
        ----------
        embeddings : Float[Tensor, "clip band dim"]

        Raises
        ------
        InputError
            The number of bands or their dimension differs from that of the fit.
        """
        n_bands = len(next(self.buffers()))
        if embeddings.shape[1] != n_bands:
            raise InputError(
                f"embeddings have {embeddings.shape[1]} bands, but {type(self).__name__} was fitted to "
                f"{n_bands}; fit and score the same embeddings"
            )
        backends = self._prepared(lambda: [self._of_band(band) for band in range(n_bands)])
        bands = zip(backends, embeddings.unbind(dim=1), strict=True)
        scores = [backend.score(values) for backend, values in bands]
        return torch.stack(scores).mean(dim=0)

    def _of_band(self, band: int) -> Backend:
        backend = self._make()
        for name, values in self.named_buffers():
            backend.register_buffer(name, values[band])
        return backend
