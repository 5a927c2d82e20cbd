"""What of a model is training's, and what a fitted back end adds."""

import pytest
import torch

from asdbench import BatchPlan, ClipBatch, InputSpec, MelSpec, Stage, System, TrainingFacts
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.state import backend_state, load_backend, load_trained, load_whole, restored
from asdbench.io.workspace import Workspace

FACTS = TrainingFacts(("00",), {})


class Bank(System[None]):
    """A network with a buffer whose shape the back end changes."""

    def __init__(self) -> None:
        super().__init__(None, FACTS)
        self.network = torch.nn.Linear(2, 2)
        self.register_buffer("bank", torch.zeros(0, 2))
        self.register_buffer("scale", torch.ones(2))

    @classmethod
    def input_spec(cls, config: None) -> InputSpec:
        return InputSpec(MelSpec(), window_frames=1, window_hop_frames=1)

    @classmethod
    def batch_plan(cls, config: None) -> BatchPlan:
        return BatchPlan(size=1, draw="every-window")

    def stages(self, steps_per_epoch: int) -> list[Stage]:
        return []

    def components(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        return {}


def test_what_a_back_end_adds_is_told_from_what_training_left() -> None:
    system = Bank()
    trained = {name: value.clone() for name, value in system.state_dict().items()}
    assert backend_state(system, trained) == {}
    system.bank = torch.ones(3, 2)
    system.scale.mul_(2)
    added = backend_state(system, trained)
    assert sorted(added) == ["bank", "scale"]

    fresh = Bank()
    load_trained(fresh, trained)
    load_backend(fresh, added)
    assert torch.equal(fresh.bank, system.bank)
    assert torch.equal(fresh.scale, system.scale)
    assert torch.equal(fresh.network.weight, system.network.weight)


def test_a_fitted_buffer_does_not_enter_a_system_that_is_yet_to_be_fitted() -> None:
    fitted, fresh = Bank(), Bank()
    fitted.bank = torch.ones(3, 2)
    load_trained(fresh, fitted.state_dict())
    assert fresh.bank.shape == (0, 2)
    assert torch.equal(fresh.network.bias, fitted.network.bias)
    load_whole(fresh, fitted.state_dict())
    assert torch.equal(fresh.bank, fitted.bank)


def test_a_model_without_a_parameter_is_named() -> None:
    state = Bank().state_dict()
    del state["network.bias"]
    with pytest.raises(ValueError, match=r"the stored model of Bank has no 'network\.bias'"):
        load_trained(Bank(), state)


def test_a_restored_system_scores_what_is_stored(store: JobStore) -> None:
    settings = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
    job = ResolvedJob.from_workspace(
        Job("baseline-mse", settings, "tiny", "fan", 0), Workspace.from_environment()
    )
    stored = store.components(job.scoring_key).filter(use="test")
    system = restored(job, store)
    assert not system.training
    with torch.inference_mode():
        batches = [system.components(batch) for batch in job.clips.scoring_batches(job.clips.test_ids)]
    (component,) = batches[0]
    scores = torch.cat([batch[component] for batch in batches]).double()
    assert scores.numpy() == pytest.approx(stored[component].to_numpy(), rel=1e-6)
