"""Pretrained weights are checked before anything starts, name results, and are not stored with models."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from asdbench.data import embeddings
from asdbench.data.sets import catalog
from asdbench.driver.request import RunRequest, resolve_jobs
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.pretrained import code_of, frozen_names, trained_state, weights_needed
from asdbench.engine.state import load_trained
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.spec import EncoderSpec
from asdbench.testing import tiny_encoder, write_tiny
from asdbench.testing.conformance import run_job
from asdbench.weights import store
from asdbench.weights.records import named

SETTINGS = {"encoder": tiny_encoder.ID, "epochs": 1, "batch_size": 16, "window_s": 0.5, "rank": 2}
JOB = Job("encoder-lora", SETTINGS, "tiny", "fan", seed=1)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    base = tmp_path_factory.mktemp("pretrained")
    workspace = Workspace.from_home(base / "home")
    catalog.add(workspace, "tiny", write_tiny(base / "clips"))
    with tiny_encoder.installed(workspace):
        yield workspace


@pytest.mark.parametrize("system", ["encoder-knn", "encoder-lora"])
def test_missing_weights_stop_a_run_before_it_starts(system: str, workspace: Workspace) -> None:
    request = RunRequest([system], "tiny", settings={"encoder": "dasheng-base"})
    with pytest.raises(
        InputError, match=r"'dasheng-base' are missing .* 'asdbench weights get dasheng-base'"
    ):
        resolve_jobs(request, workspace)


@pytest.mark.parametrize("layer", [0, 13, -13, -99])
def test_a_layer_that_the_encoder_lacks_stops_a_run_before_it_starts(
    layer: int, workspace: Workspace
) -> None:
    request = RunRequest(["encoder-knn"], "tiny", settings={"layer": layer})
    with pytest.raises(InputError, match=f"'beats-iter3' has no layer {layer}; choose from 1 to 12"):
        resolve_jobs(request, workspace)


@pytest.mark.parametrize("system", ["encoder-knn", "encoder-lora"])
def test_other_weights_give_other_results(system: str, workspace: Workspace) -> None:
    job = Job(system, {"encoder": tiny_encoder.ID}, "tiny", "fan", seed=1)
    before = ResolvedJob.from_workspace(job, workspace)
    assert weights_needed(before.configured) == (tiny_encoder.ID,)
    assert list(before.training_description["weights"]) == [tiny_encoder.ID]
    tiny_encoder.install(workspace, seed=1)
    other_key = ResolvedJob.from_workspace(job, workspace).training_key
    tiny_encoder.install(workspace)
    assert before.training_key != other_key
    assert ResolvedJob.from_workspace(job, workspace).training_key == before.training_key
    plain = ResolvedJob.from_workspace(Job("baseline-mse", {}, "tiny", "fan", seed=1), workspace)
    assert "weights" not in plain.training_description


@pytest.mark.parametrize(
    ("system", "reads_embeddings"), [("encoder-knn", True), ("encoder-lora", False), ("baseline-mse", False)]
)
def test_keys_of_stored_embeddings_follow_the_code_that_computes_them(
    system: str, reads_embeddings: bool, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {} if system == "baseline-mse" else {"encoder": tiny_encoder.ID}
    job = Job(system, settings, "tiny", "fan", seed=1)

    def keys() -> tuple[object, ...]:
        resolved = ResolvedJob.from_workspace(job, workspace)
        path = embeddings.embeddings_path(resolved.data, "fan", EncoderSpec(tiny_encoder.ID))
        return *resolved.keys, code_of(resolved.configured), path

    before = keys()
    with monkeypatch.context() as patched:
        patched.setattr(embeddings.registry, "platform_hash", lambda *_: "corrected")
        corrected = keys()
    assert [one != other for one, other in zip(before, corrected, strict=True)] == [reads_embeddings] * 3 + [
        True
    ]
    assert keys() == before


def test_frozen_tensors_are_not_stored_and_are_in_memory_once(workspace: Workspace) -> None:
    finished = run_job(JOB, workspace, JobStore.from_workspace(workspace))
    folder = finished.store.training(finished.resolved.training_key)
    stored = finished.store.load_tensors(f"{folder}/model.pt")
    system = finished.restored()
    frozen = frozen_names(system)
    weights = tiny_encoder.random_weights()
    parameters = {name: value for name, value in weights.items() if not name.startswith("init_bn.running")}
    assert sum(system.get_parameter(name).numel() for name in frozen) > 0.5 * sum(
        value.numel() for value in parameters.values()
    )
    assert not frozen & stored.keys()
    assert any(name.endswith(".up") and value.any() for name, value in stored.items())
    name = next(name for name in sorted(frozen) if name.endswith("qkv.parametrizations.weight.original"))
    assert torch.equal(system.get_parameter(name), weights["blocks.0.attn.qkv.weight"])
    other = finished.resolved.build_trained(system.facts)
    load_trained(other, system.state_dict())
    assert other.get_parameter(name).data_ptr() == system.get_parameter(name).data_ptr()
    assert trained_state(system).keys() == trained_state(other).keys()


def test_a_trained_model_that_lacks_a_tensor_is_refused(workspace: Workspace) -> None:
    system = ResolvedJob.from_workspace(JOB, workspace).build_trained(
        ResolvedJob.from_workspace(JOB, workspace).clips.facts
    )
    state = trained_state(system)
    del state["projection.weight"]
    with pytest.raises(ValueError, match=r"no 'projection\.weight'"):
        load_trained(system, state)


@pytest.mark.parametrize("kept", ["receipt", "nothing"])
def test_stored_results_remain_readable_without_the_file_of_weights(kept: str, tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path / "home")
    catalog.add(workspace, "tiny", write_tiny(tmp_path / "clips"))
    with tiny_encoder.installed(workspace):
        job = Job("encoder-knn", {"encoder": tiny_encoder.ID}, "tiny", "fan", seed=1)
        before = ResolvedJob.from_workspace(job, workspace).training_key
        path = store.weights_path(workspace, named(tiny_encoder.ID))
        path.unlink()
        if kept == "receipt":
            assert ResolvedJob.from_workspace(job, workspace).training_key == before
            return
        store.receipt_path(workspace, tiny_encoder.ID).unlink()
        with pytest.raises(InputError, match=r"nobody has published .*asdbench weights get tiny-encoder'"):
            _ = ResolvedJob.from_workspace(job, workspace).training_key
