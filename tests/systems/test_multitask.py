"""The multitask systems: sizes, losses, what reaches which loss, and their scores."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, softplus

from asdbench import registry
from asdbench.backends import SCORES
from asdbench.errors import InputError
from asdbench.features.augment import TRANSFORMS
from asdbench.spec import MelSpec
from asdbench.system import UNKNOWN, ClipBatch, System, TrainingFacts

FACTS = TrainingFacts(("00",), {"spd": ("a", "b", "c"), "m-n": ("W", "X")})
SMALL = {"width": 16, "heads": 2, "ffn": 16, "blocks": 1, "embedding": 4, "n_mels": 16, "window_frames": 32}


def build(name: str = "multitask-mel", facts: TrainingFacts = FACTS, **settings: Any) -> Any:
    configured = registry.configure(name, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return configured.system(configured.config, facts)


def batch(rows: int = 12, *, frames: int = 32, mels: int = 16) -> ClipBatch:
    generator = torch.Generator().manual_seed(1)
    return ClipBatch(
        windows=torch.randn(rows, frames, mels, generator=generator),
        clip=torch.arange(rows),
        n_clips=rows,
        machine=torch.arange(rows) % 3,
        section=torch.zeros(rows, dtype=torch.int64),
        domain=(torch.arange(rows) == 3).long(),
        attributes=torch.stack([torch.arange(rows) % 3, torch.arange(rows) % 2], dim=1),
        row_keys=torch.arange(rows),
        augmentation=torch.arange(rows) % 8,
        waveform=torch.randn(rows, 1024 + 160 * (frames - 1), generator=generator),
    )


@pytest.mark.parametrize(
    ("name", "trunk", "total"),
    [("multitask-mel", 3_147_264, 3_150_618), ("multitask-combined", 3_460_096, 3_463_450)],
)
def test_parameters_are_those_of_the_report(name: str, trunk: int, total: int) -> None:
    attributes = {"car": tuple("abcdefghij"), "spd": tuple("abcde"), "mic": tuple("ab")}  # ToyCar's
    system = build(name, TrainingFacts(("00",), attributes))
    heads = [system.own_machine, system.augmentation, *system.attributes]
    of_heads = sum(p.numel() for head in heads for p in head.parameters())
    assert sum(p.numel() for p in system.parameters()) == total
    assert of_heads == 129 * (17 + 9)
    assert total - of_heads == trunk


def test_needs_and_batches_are_those_of_the_report() -> None:
    mel, combined = registry.configure("multitask-mel"), registry.configure("multitask-combined")
    input_spec = mel.system.input_spec(mel.config)
    assert (input_spec.mel, input_spec.window_frames, input_spec.window_hop_frames) == (
        MelSpec(1024, 160, 128),
        256,
        128,
    )
    assert input_spec.standardize
    assert combined.system.input_spec(combined.config) == replace(input_spec, waveform=True)
    plan = mel.system.batch_plan(mel.config)
    assert (plan.size, plan.pseudo_anomaly_share, plan.target_rows, plan.augmentations) == (
        128,
        0.5,
        1,
        TRANSFORMS,
    )
    assert mel.config.steps == 1500


@pytest.mark.parametrize("altered_anomalous", [True, False])
def test_losses_are_means_over_the_rows_that_they_concern(altered_anomalous: bool) -> None:
    chosen = {"altered_anomalous": altered_anomalous, "augmentation_weight": 0.25, "dropout": 0.0}
    system = build(**chosen, **SMALL).eval()
    given = batch()
    assert given.attributes is not None
    given.attributes[6, 0] = UNKNOWN
    losses = system(given, "all", 0.0)
    embedding = system.embed(given)
    own = given.machine == 0
    if altered_anomalous:  # row 0 is drowned in noise, row 6 stretched
        own = own & (torch.arange(12) != 0) & (torch.arange(12) != 6)
    logit = system.own_machine(embedding).squeeze(1)
    binary = torch.where(own, softplus(-logit), softplus(logit))
    expected = {
        "own machine": binary.mean(),
        "augmentation": cross_entropy(system.augmentation(embedding), given.augmentation),
    }
    assert given.augmentation is not None
    # rows 0, 3, 6, 9 are of the own machine; row 6 is stretched; 7 would be pitched
    for column, (name, rows) in enumerate({"spd": [0, 3, 9], "m-n": [0, 3, 9]}.items()):
        logits = system.attributes[column](embedding)[rows]
        expected[f"attribute {name}"] = cross_entropy(logits, given.attributes[rows, column])
    assert losses.parts.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses.parts[name].sum / losses.parts[name].count, value)
    assert losses.weights == {
        "own machine": 1.0, "augmentation": 0.25, "attribute spd": 0.5, "attribute m-n": 0.5,
    }  # fmt: skip


def test_monitors_are_the_shares_that_the_heads_get_right() -> None:
    system = build(dropout=0.0, altered_anomalous=True, **SMALL).eval()
    given = batch(24)
    losses = system(given, "all", 0.0)
    embedding = system.embed(given)
    assert given.augmentation is not None
    right = system.augmentation(embedding).argmax(dim=1) == given.augmentation
    for index, name in enumerate(TRANSFORMS):
        part = losses.monitors[f"{name} right"]
        assert int(part.count) == 3
        assert float(part.sum) == right[index::8].sum()
    logit = system.own_machine(embedding).squeeze(1)
    intact = (given.machine == 0) & ~torch.isin(given.augmentation, torch.tensor([0, 6, 7]))
    own = losses.monitors["own machine right"]
    assert float(own.sum / own.count) == float(((logit > 0) == intact).float().mean())


def test_an_unknown_attribute_value_counts_for_nothing() -> None:
    system = build(**SMALL)
    given = batch()
    assert given.attributes is not None
    given.attributes[:] = UNKNOWN
    with torch.no_grad():
        part = system(given, "all", 0.0).parts["attribute spd"]
    assert float(part.sum) == float(part.count) == 0.0


def test_without_attributes_or_augmentation_those_tasks_are_left_out() -> None:
    system = build(facts=TrainingFacts(("00",), {}), augment=False, **SMALL)
    given = replace(batch(), attributes=torch.empty(12, 0, dtype=torch.int64), augmentation=None)
    assert system(given, "all", 0.0).parts.keys() == {"own machine"}
    assert system.batch_plan(system.config).augmentations == ()


def test_the_spectrogram_is_masked_and_the_waveform_is_not() -> None:
    system = build("multitask-combined", **SMALL).eval()
    given = batch()
    blank = replace(given, windows=torch.zeros_like(given.windows))
    features, blanked = system.features(given), system.features(blank)
    assert features.shape == (12, 32, 32)
    assert torch.equal(features[..., :16], given.windows)
    assert torch.equal(features[..., 16:], blanked[..., 16:])


def test_frames_of_waveform_and_spectrogram_are_aligned() -> None:
    """A click moves the same frames of both halves of the features."""
    from asdbench.features.mel import log_mel_of_padded

    system = build("multitask-combined", **SMALL)
    mel = MelSpec(n_mels=16)
    for click in (3000, 4321):
        waveform = torch.zeros(1, 1024 + 160 * 31)
        waveform[0, click] = 1.0
        heard = log_mel_of_padded(waveform, mel)[0].amax(dim=1) > -90.0
        frames = system.tgram.first(waveform.unsqueeze(1))[0].abs().amax(dim=0) > 0
        first, last = -(-(click - 1023) // 160), click // 160
        assert frames.nonzero().flatten().tolist() == list(range(first, last + 1))
        inner = heard.nonzero().flatten()
        # the Hann window fades at its ends, so the outermost frame may hear nothing
        assert first <= inner[0] <= first + 1
        assert last - 1 <= inner[-1] <= last


def test_time_stride_averages_frames_and_changes_no_parameter() -> None:
    system, strided = build(**SMALL), build(time_stride=5, **SMALL)
    assert [p.shape for p in system.parameters()] == [p.shape for p in strided.parameters()]
    seen = []
    strided.conformer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    given = batch()
    strided.eval().embed(given)
    assert seen[0].shape == (12, 6, 16)
    torch.testing.assert_close(seen[0][:, 0], given.windows[:, :5].mean(dim=1))


def test_the_rate_follows_one_cycle() -> None:
    system = build(steps=50, learning_rate=2e-3, **SMALL)
    (stage,) = system.stages(7)
    (update,) = stage.updates
    rates = []
    for _ in range(50):
        rates.append(update.optimizer.param_groups[0]["lr"])
        update.optimizer.step()
        update.scheduler.step()
    assert max(rates) == pytest.approx(2e-3)
    assert rates[0] < 2e-4
    assert rates[-1] < 1e-6
    assert (stage.steps, update.gradient_clip, stage.precision) == (50, 5.0, "auto")


def fitted() -> tuple[System, ClipBatch]:
    system = build(**SMALL).eval()
    given = batch(40)
    with torch.no_grad():
        system.fit_backend([given])
    rows = replace(
        batch(9), clip=torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2]), n_clips=3, domain=None, attributes=None
    )
    return system, rows


def test_the_classifiers_scores_are_three_forms_of_one() -> None:
    system, given = fitted()
    with torch.no_grad():
        found = system.components(given)
        logit = system.own_machine(system.embed(given)).squeeze(1).double()  # type: ignore[operator]
    p = torch.sigmoid(logit)
    for name, values in {"logit": -logit, "probability": 1 - p, "log-probability": -p.log()}.items():
        expected = torch.stack([values[given.clip == clip].mean() for clip in range(3)])
        torch.testing.assert_close(found[name], expected)


def test_all_back_ends_are_components_and_one_counts() -> None:
    system, given = fitted()
    with torch.no_grad():
        found = system.components(given)
    for backend in SCORES:
        assert found[backend].shape == (3,)
        configured = registry.configure("multitask-mel", {"backend": backend, "classifier_weight": 0.25})
        assert configured.system.fusion(configured.config).weights == {"logit": 0.25, backend: 0.75}
        assert configured.values("training") == registry.configure("multitask-mel").values("training")


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="width=16 is not a multiple of heads=3"):
        build(**(SMALL | {"heads": 3}))
    with pytest.raises(InputError, match="no setting 'step' of multitask-mel; did you mean 'steps'"):
        registry.configure("multitask-mel", {"step": 3})


@pytest.mark.parametrize("name", ["multitask-mel", "multitask-combined"])
def test_presets_change_no_architecture(name: str) -> None:
    for preset in ("fast", "demo"):
        changed = registry.configure(name, preset=preset).changed()
        assert changed.keys() <= {"steps", "batch_size", "target_rows", "time_stride"}, preset
    assert registry.configure(name, preset="report").changed() == {}  # the defaults


@pytest.mark.parametrize("name", ["multitask-mel", "multitask-combined"])
def test_what_labels_chose_is_in_presets_that_say_so(name: str) -> None:
    chosen = {preset: of.chosen_on for preset, of in registry.presets_of(name).items() if of.chosen_on}
    assert chosen == {"altered": ("shop",), "nearest": ("shop",), "embedding": ("shop", "demo")}
    assert registry.configure(name, preset="altered,nearest").changed() == {
        "altered_anomalous": True, "backend": "knn-density",
    }  # fmt: skip
    embedding = registry.configure(name, preset="embedding")
    weights = embedding.system.fusion(embedding.config).weights
    assert weights == {"logit": 0.0, "mahalanobis-shared": 1.0}
    assert registry.configure(name).chosen_on() == set()
