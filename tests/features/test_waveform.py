"""Levels become equal, and what a far microphone shares with the near one is subtracted."""

import torch

from asdbench.features.waveform import LEVEL, normalize_level, subtract_far_microphone

SAMPLES = 16_000


def noise(seed: int) -> torch.Tensor:
    return torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_every_clip_gets_the_same_level_and_silence_stays_silent() -> None:
    clips = torch.cat([noise(0), 0.001 * noise(0), torch.zeros(1, SAMPLES)])
    loud, faint, silent = normalize_level(clips)
    torch.testing.assert_close(loud.square().mean().sqrt(), torch.tensor(LEVEL))
    torch.testing.assert_close(faint, loud)
    assert not silent.any()


def test_filtered_sound_of_the_far_microphone_vanishes_and_the_machine_stays() -> None:
    machine, surroundings = noise(1), noise(2)
    delayed = 0.7 * torch.roll(surroundings, 3, dims=1)
    rest = subtract_far_microphone(machine + delayed, surroundings)
    before = (delayed.square().mean() / machine.square().mean()).log10() * 10
    error = (rest - machine).square().mean() / machine.square().mean()
    assert before > -4
    assert error.log10() * 10 < -10  # at least 6 dB better


def test_each_clip_has_its_own_factor_and_a_silent_far_channel_changes_nothing() -> None:
    near, far = torch.cat([noise(1), noise(3)]), torch.cat([noise(2), torch.zeros(1, SAMPLES)])
    both = subtract_far_microphone(near, far)
    torch.testing.assert_close(both[:1], subtract_far_microphone(near[:1], far[:1]))
    torch.testing.assert_close(both[1], near[1], atol=1e-5, rtol=0)
