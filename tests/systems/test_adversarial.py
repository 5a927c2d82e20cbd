"""The adversarial system: what each update computes and changes, its schedules and monitors, its score."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from asdbench import random_by_row, registry
from asdbench.nn.adversarial import moved_residual
from asdbench.system import UNKNOWN, ClipBatch, Losses, Mean, TrainingFacts

FACTS = TrainingFacts(sections=("00",), attributes={"mic": ("A", "B"), "spd": ("1", "2", "3")})
UPDATES = ("cvae", "discriminator", "generator")
NETWORKS = ("encoder", "decoder", "discriminator")
OWN, OTHER = 4, 3


def build(facts: TrainingFacts = FACTS, **settings: Any) -> Any:
    torch.manual_seed(0)
    configured = registry.configure("adversarial", settings)
    return configured.system(configured.config, facts).train()


def training_batch(*, seed: int = 0) -> ClipBatch:
    """Return windows of this machine type, then of others; one value is not known."""
    generator = torch.Generator().manual_seed(seed)
    rows = OWN + OTHER
    machine = torch.tensor([0, 0, 0, 0, 1, 2, 1])
    attributes = torch.tensor([[0, 0, 1, 0, 1, 1, 0], [0, 2, 1, UNKNOWN, 1, 1, 0]]).T.clone()
    attributes[machine > 0] = UNKNOWN
    return ClipBatch(
        windows=torch.randn(rows, 256, 128, generator=generator),
        clip=torch.arange(rows),
        n_clips=rows,
        machine=machine,
        section=torch.zeros(rows, dtype=torch.int64),
        domain=torch.zeros(rows, dtype=torch.int64),
        attributes=attributes,
        row_keys=torch.arange(rows),
        own_rows=OWN,
    )


def own(batch: ClipBatch) -> tuple[Tensor, Tensor]:
    """Return real windows (row, mel, frame) and their one-hot attributes as the batch above has them."""
    condition = [[1, 0, 1, 0, 0], [1, 0, 0, 0, 1], [0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]
    return batch.windows[batch.machine == 0].transpose(1, 2), torch.tensor(condition, dtype=torch.float32)


def mean(part: Mean) -> float:
    return float(part.sum.detach()) / float(part.count)


def total(losses: Losses) -> Tensor:
    parts = [
        losses.weights.get(name, 1.0) * part.sum / max(part.count, 1) for name, part in losses.parts.items()
    ]
    return torch.stack([torch.as_tensor(part) for part in parts]).sum()


def step(system: Any, batch: ClipBatch, name: str, progress: float = 0.5) -> Losses:
    """Do what the training loop does for one update."""
    (update,) = (u for stage in system.stages(1) for u in stage.updates if u.name == name)
    losses: Losses = system(batch, name, torch.tensor(progress))
    update.optimizer.zero_grad()
    total(losses).backward()  # type: ignore[no-untyped-call]
    update.optimizer.step()
    return losses


def state(system: Any) -> dict[str, dict[str, Tensor]]:
    return {n: {k: v.clone() for k, v in getattr(system, n).state_dict().items()} for n in NETWORKS}


def latent_noise(batch: ClipBatch, draw: str) -> Tensor:
    """Return what the rows of this machine type draw."""
    assert batch.row_keys is not None
    return random_by_row.normal(batch.row_keys[batch.machine == 0], 16, draw=draw)


def latent_of(system: Any, batch: ClipBatch, draw: str) -> Tensor:
    """Return the posterior's draw of the rows of this machine type."""
    real, _ = own(batch)
    center, log_variance = system.encoder(real, real.new_zeros(len(real), 0))
    return center + (log_variance / 2).exp() * latent_noise(batch, draw)


def cross_entropy(logits: Tensor, label: float) -> float:
    return float(functional.binary_cross_entropy(logits.sigmoid(), torch.full_like(logits, label)))


# What it is made of


def test_it_has_the_counted_parameters() -> None:
    counts = {
        name: sum(p.numel() for p in network.parameters()) for name, network in build().named_children()
    }
    assert counts == {"encoder": 145_736, "decoder": 142_224 + 256 * 5, "discriminator": 240_737}


def test_the_window_and_the_rows_are_those_of_the_design() -> None:
    configured = registry.configure("adversarial", {"target_rows": 4, "window_hop_frames": 64})
    input_spec = configured.system.input_spec(configured.config)
    assert (input_spec.window_frames, input_spec.window_hop_frames, input_spec.standardize) == (256, 64, True)
    assert (input_spec.mel.n_fft, input_spec.mel.hop_samples, input_spec.mel.n_mels) == (1024, 160, 128)
    assert not input_spec.waveform
    plan = configured.system.batch_plan(configured.config)
    assert (plan.size, plan.pseudo_anomaly_share, plan.target_rows, plan.draw) == (
        64,
        0.5,
        4,
        "window-per-clip",
    )


def test_the_autoencoder_comes_first_and_sees_no_other_machine_type() -> None:
    cvae, adversarial = build(cvae_steps=7, adversarial_steps=9, precision="bfloat16", target_rows=2).stages(
        1
    )
    assert (cvae.steps, adversarial.steps) == (7, 9)
    assert cvae.precision == adversarial.precision == "bfloat16"
    assert (cvae.plan.size, cvae.plan.pseudo_anomaly_share, cvae.plan.target_rows) == (64, 0.0, 2)
    assert adversarial.plan is None
    assert [update.name for update in (*cvae.updates, *adversarial.updates)] == list(UPDATES)


def test_the_optimizers_have_the_designs_rates() -> None:
    found = [
        (update.optimizer.param_groups[0]["lr"], update.optimizer.param_groups[0]["betas"])
        for stage in build(adam_beta1=0.4).stages(1)
        for update in stage.updates
    ]
    assert found == [(1e-3, (0.9, 0.999)), (2e-4, (0.4, 0.999)), (1e-4, (0.4, 0.999))]


def test_presets_change_no_architecture() -> None:
    assert registry.configure("adversarial", preset="report").changed() == {}
    for preset in ("fast", "demo"):
        changed = registry.configure("adversarial", preset=preset).changed()
        assert changed.keys() <= {"cvae_steps", "adversarial_steps", "batch_size", "target_rows"}


def test_altered_windows_of_the_own_machine_count_as_others() -> None:
    configured = registry.configure("adversarial", preset="altered")
    plan = configured.system.batch_plan(configured.config)
    assert plan.augmentations == ("identity", "identity", "identity", "noise", "stretch", "pitch")
    without = registry.configure("adversarial")
    assert without.system.batch_plan(without.config).augmentations == ()
    system, batch = build(), training_batch()
    system.eval()  # logits of a row that depend on no other
    altered = replace(batch, augmentation=torch.tensor([0, 3, 2, 5, 1, 4, 5]))  # rows 1 and 3 are altered
    losses = system(altered, "discriminator", torch.tensor(1.0))
    windows = batch.windows.transpose(1, 2)
    with torch.no_grad():
        logits = system.discriminator(windows)
    for name, rows, label in (("real", [0, 2], 1.0), ("other", [1, 3, 4, 5, 6], 0.0)):
        assert int(losses.parts[name].count) == len(rows)
        assert mean(losses.parts[name]) == pytest.approx(cross_entropy(logits[rows], label), rel=1e-4)
    ordered = logits[[0, 2], None] > logits[[1, 3, 4, 5, 6]]
    assert mean(losses.monitors["auc_other"]) == pytest.approx(float(ordered.float().mean()))
    generated = system(altered, "generator", torch.tensor(1.0))
    assert [int(losses.parts["fake"].count), int(generated.parts["fooling"].count)] == [OWN, OWN]
    assert int(generated.parts["anchor"].count) == 2


@pytest.mark.parametrize("fakes", ["reconstructed", "sampled"])
def test_fakes_with_texture_have_what_the_autoencoder_left_out(fakes: str) -> None:
    system, batch = build(fakes=fakes, fake_texture=True, instance_noise=0.0).eval(), training_batch()
    seen: list[Tensor] = []
    system.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    system(batch, "discriminator", torch.tensor(0.0))
    losses = system(batch, "generator", torch.tensor(0.0))
    assert batch.row_keys is not None
    real, condition = own(batch)
    keys = batch.row_keys[batch.machine == 0]
    for update, fake in (("discriminator", seen[0][OWN : 2 * OWN]), ("generator", seen[1])):
        with torch.no_grad():
            rebuilt = plain = system.decoder(latent_of(system, batch, f"{update} posterior"), condition)
            if fakes == "sampled":
                plain = system.decoder(latent_noise(batch, f"{update} prior"), condition)
        torch.testing.assert_close(fake, plain + moved_residual(real, rebuilt, keys))
    assert mean(losses.parts["anchor"]) == pytest.approx(float(functional.mse_loss(rebuilt, real)), rel=1e-4)


def test_a_batch_may_have_no_intact_window() -> None:
    """It adds nothing to the losses of real windows."""
    system = build()
    none_intact = replace(training_batch(), augmentation=torch.full((7,), 4))
    losses = step(system, none_intact, "discriminator")
    assert [int(losses.parts[name].count) for name in ("real", "fake", "other")] == [0, OWN, 7]
    anchor = system(none_intact, "generator", torch.tensor(0.5)).parts["anchor"]
    assert (float(anchor.sum.detach()), int(anchor.count)) == (0.0, 0)


# What each update changes


@pytest.mark.parametrize("fakes", ["reconstructed", "sampled"])
@pytest.mark.parametrize(
    ("update", "changed"),
    [("cvae", {"encoder", "decoder"}), ("discriminator", {"discriminator"}), ("generator", {"decoder"})],
)
def test_an_update_changes_only_its_networks(update: str, changed: set[str], fakes: str) -> None:
    """Parameters and buffers; of those that train, both."""
    system = build(fakes=fakes)
    before = state(system)
    step(system, training_batch(), update)
    after = state(system)
    buffers = {name for name, _ in system.named_buffers()}
    for network in NETWORKS:
        differing = {
            f"{network}.{key}"
            for key, value in after[network].items()
            if not value.equal(before[network][key])
        }
        assert bool(differing - buffers) is bool(differing & buffers) is (network in changed)
    idle = [n for n in NETWORKS if n not in changed]
    assert all(p.grad is None for n in idle for p in getattr(system, n).parameters())
    assert all(module.training for module in system.modules())
    assert all(parameter.requires_grad for parameter in system.parameters())


def test_evaluation_mode_outlasts_an_update() -> None:
    system = build().eval()
    for update in UPDATES:
        system(training_batch(), update, torch.tensor(0.0))
    assert not any(module.training for module in system.modules())


def test_the_generator_learns_through_the_discriminator() -> None:
    system = build(anchor_weight=0.0)
    system(training_batch(), "generator", torch.tensor(0.0)).parts["fooling"].sum.backward()
    assert all(parameter.grad is not None for parameter in system.decoder.parameters())
    assert system.decoder.layers[-1].weight.grad.abs().sum() > 0


# What the losses are


def test_the_cvae_loss_is_the_negative_elbo_a_value() -> None:
    """[½·‖x − x̂‖² + β·KL] / (128·256), written with torch's distributions."""
    system, batch = build(beta=3.0), training_batch()
    losses = system(batch, "cvae", torch.tensor(0.04))
    real, condition = own(batch)
    with torch.no_grad():
        center, log_variance = system.encoder(real, condition[:, :0])
        rebuilt = system.decoder(latent_of(system, batch, "cvae posterior"), condition)
    posterior = torch.distributions.Normal(center, (log_variance / 2).exp())
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    likelihood = torch.distributions.Normal(rebuilt, 1.0).log_prob(real)
    constant = torch.distributions.Normal(0.0, 1.0).log_prob(torch.zeros(()))
    elbo = (likelihood - constant).sum(dim=(1, 2)) - 3.0 * 0.4 * kl.sum(dim=1)  # 0.04 is 0.4 of the warm-up
    assert float(total(losses).detach()) == pytest.approx(-float(elbo.mean()) / (128 * 256), rel=1e-5)
    assert mean(losses.parts["kl"]) == pytest.approx(float(kl.sum(dim=1).mean()), rel=1e-5)
    assert list(losses.monitors) == [f"kl_{place:02d}" for place in range(16)]
    for place in (0, 7, 15):
        assert mean(losses.monitors[f"kl_{place:02d}"]) == pytest.approx(float(kl[:, place].mean()), rel=1e-4)


@pytest.mark.parametrize("fakes", ["reconstructed", "sampled"])
def test_the_discriminator_loss_is_three_cross_entropies(fakes: str) -> None:
    system, batch = (
        build(fakes=fakes, instance_noise=0.0, fake_weight=0.25, other_weight=0.125),
        training_batch(),
    )
    real, condition = own(batch)
    losses = system(batch, "discriminator", torch.tensor(0.0))
    system.encoder.eval()
    system.decoder.eval()
    with torch.no_grad():
        latent = latent_of(system, batch, "discriminator posterior")
        if fakes == "sampled":
            latent = latent_noise(batch, "discriminator prior")
        others = batch.windows[batch.machine > 0].transpose(1, 2)
        logits = system.discriminator(torch.cat([real, system.decoder(latent, condition), others]))
    of_real, of_fake, of_other = logits[:OWN], logits[OWN : 2 * OWN], logits[2 * OWN :]
    expected = {
        "real": cross_entropy(of_real, 1.0),
        "fake": cross_entropy(of_fake, 0.0),
        "other": cross_entropy(of_other, 0.0),
    }
    assert {name: mean(part) for name, part in losses.parts.items()} == pytest.approx(expected, rel=1e-4)
    assert len(of_other) == losses.parts["other"].count == OTHER
    weighted = expected["real"] + 0.25 * expected["fake"] + 0.125 * expected["other"]
    assert float(total(losses).detach()) == pytest.approx(weighted, rel=1e-4)
    assert mean(losses.monitors["probability_fake"]) == pytest.approx(
        float(of_fake.sigmoid().mean()), rel=1e-4
    )
    for name, negative in (("auc_fake", of_fake), ("auc_other", of_other)):
        share = (of_real[:, None] > negative).float().mean()
        assert mean(losses.monitors[name]) == pytest.approx(float(share))


@pytest.mark.parametrize("fakes", ["reconstructed", "sampled"])
def test_the_generator_loss_fools_and_is_anchored(fakes: str) -> None:
    """The discriminator judges as at scoring; the anchor is the reconstruction's, not the sample's."""
    system, batch = build(fakes=fakes, instance_noise=0.0, anchor_weight=2.0), training_batch()
    real, condition = own(batch)
    losses = system(batch, "generator", torch.tensor(0.0))
    system.encoder.eval()
    system.discriminator.eval()
    with torch.no_grad():
        rebuilt = fake = system.decoder(latent_of(system, batch, "generator posterior"), condition)
        if fakes == "sampled":
            fake = system.decoder(latent_noise(batch, "generator prior"), condition)
        fooling = cross_entropy(system.discriminator(fake), 1.0)
    anchor = float(functional.mse_loss(rebuilt, real))
    assert mean(losses.parts["fooling"]) == pytest.approx(fooling, rel=1e-4)
    assert mean(losses.parts["anchor"]) == pytest.approx(anchor, rel=1e-4)
    assert float(total(losses).detach()) == pytest.approx(fooling + 2.0 * anchor, rel=1e-4)


# Schedules and noise


def test_beta_rises_over_its_share_of_the_stage() -> None:
    system = build(beta=2.0, beta_warmup_share=0.2)
    found = system.kl_weight(torch.tensor([0.0, 0.05, 0.1, 0.2, 0.9]))
    assert found.tolist() == pytest.approx([0.0, 0.5, 1.0, 2.0, 2.0])
    assert float(build(beta_warmup_share=0.0).kl_weight(torch.tensor(0.0))) == 1.0


def test_the_instance_noise_falls_to_nothing() -> None:
    system = build(instance_noise=0.4)
    assert system.noise_deviation(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.4, 0.2, 0.0])


@pytest.mark.parametrize("update", ["discriminator", "generator"])
def test_every_window_the_discriminator_sees_is_noisy(update: str) -> None:
    quiet, noisy = build(instance_noise=0.0), build(instance_noise=0.4)
    seen: list[Tensor] = []
    for system in (quiet, noisy):
        system.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        system(training_batch(), update, torch.tensor(0.5))
    noise = (seen[1] - seen[0]).flatten(1)
    assert len(noise) == (OWN if update == "generator" else 2 * OWN + OTHER)
    torch.testing.assert_close(noise.std(dim=1), torch.full((len(noise),), 0.2), rtol=0.05, atol=0.0)
    assert noise.mean(dim=1).abs().max() < 0.01


@pytest.mark.parametrize("fakes", ["reconstructed", "sampled"])
def test_a_rows_key_decides_what_it_draws(fakes: str) -> None:
    """The losses of a batch's parts add up to those of the batch; other keys give others."""
    system, batch = build(fakes=fakes).eval(), training_batch()
    assert batch.row_keys is not None
    for update in UPDATES:
        whole = system(batch, update, torch.tensor(0.0)).parts
        shares = [system(rows_of(batch, first, 2), update, torch.tensor(0.0)).parts for first in (0, 1)]
        others = system(replace(batch, row_keys=batch.row_keys + 7), update, torch.tensor(0.0)).parts
        for name, part in whole.items():
            found = sum(float(share[name].sum.detach()) for share in shares)
            assert found == pytest.approx(float(part.sum.detach()), rel=1e-5)
        assert any(not others[name].sum.equal(part.sum) for name, part in whole.items())


def rows_of(batch: ClipBatch, first: int, size: int) -> ClipBatch:
    """Return the rows that one of ``size`` processes has."""
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
    shared: dict[str, Any] = {name: value[first::size] for name, value in tensors.items()}
    return replace(batch, **shared, own_rows=len(range(first, OWN, size)))


# Attributes


def test_conditions_are_one_hot_and_zero_where_not_known() -> None:
    batch = training_batch()
    found = build().conditions(batch)
    torch.testing.assert_close(found[batch.machine == 0], own(batch)[1])
    assert not found[batch.machine > 0].any()


def test_the_decoder_is_conditioned_and_the_encoder_if_asked() -> None:
    batch = training_batch()
    other = replace(batch, attributes=torch.zeros_like(batch.attributes))
    for encoder in (False, True):
        system = build(condition_encoder=encoder).eval()
        first, second = (system(given, "cvae", torch.tensor(0.0)) for given in (batch, other))
        assert mean(first.parts["reconstruction"]) != mean(second.parts["reconstruction"])
        assert (mean(first.parts["kl"]) != mean(second.parts["kl"])) is encoder


@pytest.mark.parametrize("encoder", [False, True])
def test_without_attributes_nothing_is_conditioned(encoder: bool) -> None:
    system = build(TrainingFacts(sections=("00",), attributes={}), condition_encoder=encoder)
    assert sum(p.numel() for p in system.decoder.parameters()) == 142_224
    batch = replace(training_batch(), attributes=torch.zeros(OWN + OTHER, 0, dtype=torch.int64))
    for update in UPDATES:
        assert torch.isfinite(total(step(system, batch, update)))


# Scores


def test_the_score_is_minus_the_mean_logit_of_a_clips_windows() -> None:
    system = build().eval()
    clip = torch.tensor([1, 0, 1, 1, 0, 0, 1])
    told = training_batch()
    batch = replace(told, clip=clip, n_clips=2, domain=None, attributes=None, row_keys=None)
    with torch.inference_mode():
        found = system.components(batch)
        logits = system.discriminator(told.windows.transpose(1, 2))
    assert list(found) == ["discriminator"]
    expected = torch.stack([-logits[clip == c].mean() for c in range(2)])
    torch.testing.assert_close(found["discriminator"], expected)


def test_many_windows_are_scored_in_several_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    system, sizes = build().eval(), []
    system.discriminator.layers.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    monkeypatch.setattr("systems.adversarial._SCORING_ROWS", 3)
    with torch.inference_mode():
        in_goes = system.components(training_batch())["discriminator"]
        monkeypatch.setattr("systems.adversarial._SCORING_ROWS", 99)
        at_once = system.components(training_batch())["discriminator"]
    assert sizes == [3, 3, 1, 7]
    torch.testing.assert_close(in_goes, at_once)


def test_training_tells_real_from_other() -> None:
    """A few steps on one batch whose other machine types are louder."""
    system, batch = build(discriminator_learning_rate=2e-3), training_batch()
    louder = batch.windows + 2.0 * (batch.machine > 0)[:, None, None]
    batch = replace(batch, windows=louder)
    updates = system.stages(1)[1].updates
    found = []
    for number in range(8):
        for update in updates:
            losses = system(batch, update.name, torch.tensor(number / 8))
            update.optimizer.zero_grad()
            total(losses).backward()  # type: ignore[no-untyped-call]
            update.optimizer.step()
            if update.name == "discriminator":
                found.append(losses)
    assert float(total(found[-1]).detach()) < float(total(found[0]).detach())
    assert mean(found[-1].monitors["auc_other"]) == 1.0
