"""The controls against their definitions, written out in NumPy."""

import numpy as np
import pytest
import torch

from asdbench import registry
from asdbench.config import SettingValue
from asdbench.system import ClipBatch, System, TrainingFacts
from systems.spectra_gauss import clip_statistics, modulation_spectrum

FACTS = TrainingFacts(sections=("00",), attributes={})


def batch(clips: int, *, seed: int, frames: int = 40, target: int | None = None) -> ClipBatch:
    generator = torch.Generator().manual_seed(seed)
    domain = None if target is None else (torch.arange(clips) >= clips - target).long()
    return ClipBatch(
        torch.randn(clips, frames, 32, generator=generator),
        torch.arange(clips),
        n_clips=clips,
        machine=torch.zeros(clips, dtype=torch.long),
        section=torch.zeros(clips, dtype=torch.long),
        domain=domain,
    )


def fitted(name: str, **settings: SettingValue) -> System:
    configured = registry.configure(name, {"n_mels": 32} | settings)
    system = configured.system(configured.config, FACTS).eval()
    system.fit_backend(iter([batch(20, seed=0, target=0), batch(5, seed=1, frames=50, target=3)]))
    return system


def test_statistics_of_a_clip() -> None:
    given = batch(3, seed=2).windows
    found, frames = clip_statistics(given).numpy(), given.numpy().astype(np.float64)
    expected = np.concatenate(
        [frames.mean(axis=1), frames.std(axis=1), np.diff(frames, axis=1).std(axis=1)], 1
    )
    assert found.shape == (3, 3 * 32 + 8 * 16)
    np.testing.assert_allclose(found[:, : 3 * 32], expected, rtol=1e-5, atol=1e-6)
    groups = torch.from_numpy(frames.reshape(3, 40, 16, 2).mean(axis=3))
    modulations = modulation_spectrum(groups).flatten(1).numpy()
    np.testing.assert_allclose(found[:, 3 * 32 :], modulations, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "period", "octave"), [(512, 3, 0), (512, 12, 2), (1024, 100, 5), (640, 400, 7)]
)
def test_a_modulation_lies_in_its_octave_below_half_the_frame_rate(
    frames: int, period: float, octave: int
) -> None:
    series = torch.sin(2 * torch.pi * torch.arange(frames) / period)[None, :, None] + 7
    power = 10 ** modulation_spectrum(series)[0, :, 0]
    assert power.argmax() == octave
    assert power[octave] > 10 * power[octave - 2]


def test_white_noise_has_the_same_power_in_all_octaves_and_at_all_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    for frames in (60, 700, 5000):
        noise = torch.randn(400, frames, 1, generator=generator)
        power = (10 ** modulation_spectrum(noise)).mean(dim=0)[
            :4
        ]  # lower ones lack what 60 frames cannot resolve
        torch.testing.assert_close(power, torch.ones_like(power), rtol=0.15, atol=0)


def test_clips_of_one_frame_and_silent_clips_have_statistics() -> None:
    assert clip_statistics(torch.randn(2, 1, 32)).isfinite().all()
    assert clip_statistics(torch.zeros(2, 40, 32)).isfinite().all()


def test_the_score_is_a_distance_under_one_covariance_with_a_ridge() -> None:
    system = fitted("spectra-gauss", ridge=0.5)
    training = torch.cat(
        [clip_statistics(batch(20, seed=0).windows), clip_statistics(batch(5, seed=1, frames=50).windows)]
    )
    x = training.double().numpy()
    covariance = np.cov(x.T, bias=True)
    covariance += 0.5 * np.diag(np.diag(covariance))
    given = batch(4, seed=3)
    centered = clip_statistics(given.windows).double().numpy() - x.mean(axis=0)
    expected = np.einsum("ci,ij,cj->c", centered, np.linalg.inv(covariance), centered)
    np.testing.assert_allclose(system.components(given)["distance"].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("level", ["kept", "removed"])
def test_the_distance_to_the_nearest_mean_spectrum(level: str) -> None:
    system, given = fitted("spectra-knn", level=level), batch(4, seed=3)
    spectra = [
        part.windows.double().mean(dim=1) for part in (batch(20, seed=0), batch(5, seed=1, frames=50), given)
    ]
    if level == "removed":
        spectra = [part - part.mean(dim=1, keepdim=True) for part in spectra]
    expected = torch.cdist(spectra[2], torch.cat(spectra[:2])).amin(dim=1)
    torch.testing.assert_close(system.components(given)["knn"], expected, rtol=1e-5, atol=0)


def test_without_its_level_a_louder_clip_is_as_near() -> None:
    given = batch(4, seed=3)
    louder = ClipBatch(given.windows + 12, given.clip, 4, given.machine, given.section)
    for level, equal in (("kept", False), ("removed", True)):
        system = fitted("spectra-knn", level=level)
        before, after = system.components(given)["knn"], system.components(louder)["knn"]
        assert torch.allclose(before, after, rtol=1e-4) == equal


def test_the_chosen_back_end_counts_alone() -> None:
    for backend in ("knn", "knn-density", "knn-variance"):
        configured = registry.configure("spectra-knn", {"backend": backend})
        assert configured.system.fusion(configured.config).weights == {backend: 1.0}
        assert backend in fitted("spectra-knn").components(batch(4, seed=3))
