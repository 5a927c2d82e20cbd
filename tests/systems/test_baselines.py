"""The two baselines against what the released implementation does, written out in NumPy."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from asdbench import registry
from asdbench.data.clip_windows import window_starts
from asdbench.errors import InputError
from asdbench.system import ClipBatch, Fusion, System, TrainingFacts

FACTS = TrainingFacts(sections=("00",), attributes={})
MELS, FRAMES = 8, 5


def build(name: str = "baseline-maha", **settings: Any) -> Any:
    torch.manual_seed(0)
    configured = registry.configure(name, {"n_mels": MELS, "hidden": 16} | settings)
    trainer = configured.trainer
    trained = trainer.system(trainer.config, FACTS)
    if configured.trained is None:
        return trained.eval()
    return configured.system(configured.config, FACTS, trained).eval()  # type: ignore[call-arg]


def batch(rows: int, *, clips: int = 1, target_rows: int | None = None, seed: int = 0) -> ClipBatch:
    """Return random windows; the last ``target_rows`` are of the target domain (``None``: not told)."""
    generator = torch.Generator().manual_seed(seed)
    domain = None if target_rows is None else torch.tensor([0] * (rows - target_rows) + [1] * target_rows)
    return ClipBatch(
        windows=torch.randn(rows, FRAMES, MELS, generator=generator) - 30,
        clip=torch.arange(rows) % clips,
        n_clips=clips,
        machine=torch.zeros(rows, dtype=torch.int64),
        section=torch.zeros(rows, dtype=torch.int64),
        domain=domain,
    )


def residuals(system: Any, given: ClipBatch) -> NDArray[np.float64]:
    """Return (row, frame, mel)."""
    with torch.no_grad():
        rows = given.windows.flatten(1)
        return (rows - system.network(rows)).double().numpy().reshape(len(rows), FRAMES, MELS)


def released_precisions(system: Any, batches: list[ClipBatch]) -> list[NDArray[np.float64]]:
    """Per batch and domain the batch mean is subtracted; divided by the number of 640-vectors less one."""
    scatter = np.zeros((2, MELS, MELS))
    vectors = np.zeros(2, int)
    for given in batches:
        assert given.domain is not None
        for domain in (0, 1):
            rows = residuals(system, given)[given.domain.numpy() == domain].reshape(-1, MELS)
            if len(rows):
                centered = rows - rows.mean(axis=0)
                scatter[domain] += centered.T @ centered
                vectors[domain] += len(rows) // FRAMES
    source = scatter[0] / (vectors[0] - 1)
    target = scatter[1] / (vectors[1] - 1) if vectors[1] else source
    return [np.linalg.inv(source), np.linalg.inv(target)]


@pytest.fixture
def fitted() -> Any:
    system = build()
    with torch.inference_mode():
        system.fit_backend(training_batches())
    return system


def training_batches() -> Iterator[ClipBatch]:
    for seed in range(4):
        yield batch(64, target_rows=seed, seed=seed)


def test_the_default_autoencoder_has_the_released_ones_parameters() -> None:
    configured = registry.configure("baseline-mse")
    system = configured.system(configured.config, FACTS)
    assert sum(p.numel() for p in system.parameters()) == 267_928
    widths = [m.out_features for m in system.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    norms = [m for m in system.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert [(m.eps, m.momentum) for m in norms] == [(1e-3, 0.01)] * 9


def test_ten_seconds_are_313_frames_and_309_vectors() -> None:
    configured = registry.configure("baseline-mse")
    input_spec = configured.system.input_spec(configured.config)
    assert input_spec.mel.frames(160_000) == 313
    assert len(window_starts(313, input_spec.window_frames, input_spec.window_hop_frames)) == 309
    assert input_spec.window_frames * input_spec.mel.n_mels == 640
    assert input_spec.mel.floor == np.finfo(np.float64).eps
    assert not input_spec.standardize


def test_mse_is_the_mean_over_vectors_and_dimensions() -> None:
    system = build("baseline-mse")
    given = batch(30, clips=3)
    with torch.inference_mode():
        found = system.components(given)["mse"].numpy()
    squares = residuals(system, given) ** 2
    expected = [squares[given.clip.numpy() == clip].mean() for clip in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_loss_is_the_mean_squared_error() -> None:
    system = build("baseline-mse").train()
    given = batch(30)
    part = system(given, "all", 0.0).parts["reconstruction"]
    system.eval()  # the same statistics would need the same mode
    evaluated = system(given, "all", 0.0).parts["reconstruction"]
    assert part.count == evaluated.count == 30 * FRAMES * MELS
    assert float(evaluated.sum.detach()) / evaluated.count == pytest.approx(
        (residuals(system, given) ** 2).mean(), rel=1e-5
    )
    assert part.sum.requires_grad


def test_the_covariances_are_the_released_ones(fitted: Any) -> None:
    expected = released_precisions(fitted.trained, list(training_batches()))
    np.testing.assert_allclose(fitted.precision.numpy(), expected, rtol=1e-6)
    assert not np.allclose(expected[0], expected[1])


def test_the_released_score_is_the_mean_of_all_products(fitted: Any) -> None:
    """The clip-mean residual's quadratic form equals the mean of the matrix of products of frames i and j."""
    given = batch(40, clips=2, seed=9)
    with torch.inference_mode():
        found = {name: values.numpy() for name, values in fitted.components(given).items()}
    precisions = released_precisions(fitted.trained, list(training_batches()))
    for clip in range(2):
        frames = residuals(fitted.trained, given)[given.clip.numpy() == clip].reshape(-1, MELS)
        products = [frames @ precision @ frames.T for precision in precisions]
        np.testing.assert_allclose(found["released"][clip], min(p.mean() for p in products), rtol=1e-5)
        np.testing.assert_allclose(
            found["per_frame"][clip], min(np.trace(p) / len(p) for p in products), rtol=1e-5
        )
        mean = frames.mean(axis=0)
        np.testing.assert_allclose(mean @ precisions[0] @ mean, products[0].mean(), rtol=1e-10)
        assert found["released"][clip] < found["per_frame"][clip]


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_domain_without_training_clips_takes_the_others_covariance(lacking: int) -> None:
    system = build()
    given = replace(batch(64, seed=1), domain=torch.full((64,), 1 - lacking))
    with torch.inference_mode():
        system.fit_backend([given])
    assert torch.equal(system.precision[0], system.precision[1])
    assert system.precision.abs().sum() > 0


def test_a_singular_covariance_is_inverted_on_its_range() -> None:
    system = build()
    given = batch(64, target_rows=0)
    with torch.inference_mode():
        system.trained.network[-1].weight.zero_()
        windows = given.windows.clone()
        windows[:, :, 3] = system.trained.network[-1].bias.view(FRAMES, MELS)[
            :, 3
        ]  # no residual in this band
        system.fit_backend([replace(given, windows=windows)])
        scores = system.components(batch(20, clips=2))
    assert (system.precision[:, 3].abs() < 1e-12 * system.precision.abs().max()).all()
    assert all(torch.isfinite(values).all() for values in scores.values())


def test_the_modes_weigh_stored_components_alone() -> None:
    for mode in ("released", "per_frame"):
        configured = registry.configure("baseline-maha", {"maha_mode": mode})
        assert configured.system.fusion(configured.config) == Fusion({mode: 1.0})
        assert "maha_mode" not in configured.values("training", "scoring")


def test_the_papers_score_is_a_system_of_its_own(fitted: Any) -> None:
    configured = registry.configure("baseline-maha-per-frame")
    assert configured.system.fusion(configured.config) == Fusion({"per_frame": 1.0})
    assert configured.system.components is type(fitted).components


def test_reproduction_trains_on_all_clips() -> None:
    for value, kept in (("true", False), ("false", True)):
        configured = registry.configure("baseline-mse", {"reproduction": value})
        plan = configured.system.batch_plan(configured.config)
        assert plan.hold_out is kept
        assert plan.validation_share == 0.1
        assert plan.size == 256


def test_a_way_to_hold_out_does_not_go_with_reproduction() -> None:
    configured = registry.configure("baseline-mse", {"reproduction": "true", "hold_out": "cross-fit"})
    with pytest.raises(InputError, match=r"hold_out=cross-fit changes nothing .*; leave one of the two out"):
        configured.system.batch_plan(configured.config)


def test_both_are_systems() -> None:
    assert all(isinstance(build(name), System) for name in ("baseline-mse", "baseline-maha"))
