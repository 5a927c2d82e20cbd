"""Weights in the data home: read, missing, damaged, malicious."""

import io
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.nn import encoders
from asdbench.testing.encoders import SMALL, random_state
from asdbench.weights.obtain import add
from asdbench.weights.records import RECORDS, named
from asdbench.weights.store import check_installed, load, read_receipt, verify, weights_path
from tests.weights.checkpoints import beats_bytes, ced_bytes, ced_tensors, record_of, written
from tests.weights.conftest import Register


def yes(_: object) -> bool:
    return True


def test_tensors_come_without_prefix_and_classifier(
    workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    register(record_of(ced_bytes()))
    add(workspace, "ced-tiny", written(tmp_path / "their.safetensors", ced_bytes()), accept=yes)
    tensors = load("ced-tiny", workspace)
    assert set(tensors) == {"init_bn.weight", "blocks.0.attn.qkv.weight"}
    assert torch.equal(tensors["init_bn.weight"], ced_tensors()["encoder.init_bn.weight"])


def test_tensors_of_a_torch_checkpoint_are_read_from_its_entry(
    workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    register(record_of(beats_bytes(), weights_id="beats-iter3"))
    add(workspace, "beats-iter3", written(tmp_path / "BEATs.pt", beats_bytes()), accept=yes)
    assert set(load("beats-iter3", workspace)) == {"patch_embedding.weight"}


@pytest.mark.parametrize("weights_id", RECORDS)
def test_a_checkpoint_with_the_true_names_goes_into_its_architecture(
    weights_id: str, workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    tensors, content = random_state(weights_id), io.BytesIO()
    if named(weights_id).format == "safetensors":
        content.write(save(tensors))
    else:
        torch.save({"cfg": {"layers": 12}, "model": tensors} if named(weights_id).root else tensors, content)
    register(record_of(content.getvalue(), weights_id=weights_id))
    add(workspace, weights_id, written(tmp_path / "file", content.getvalue()), accept=yes)
    loaded = load(weights_id, workspace)
    encoder = encoders.load(weights_id, loaded, **SMALL[weights_id])
    assert encoder.dim == SMALL[weights_id]["dim"]
    name = next(iter(loaded))
    assert torch.equal(loaded[name], tensors[named(weights_id).prefix + name])


def test_missing_weights_are_named_with_the_command_that_gets_them(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="'beats-iter3', 'ced-tiny' are missing") as error:
        check_installed(workspace, ["beats-iter3", "ced-tiny", "beats-iter3"])
    assert "'asdbench weights get beats-iter3 ced-tiny'" in str(error.value)
    with pytest.raises(InputError, match="are missing"):
        load("ced-tiny", workspace)


def test_damaged_weights_are_noticed(workspace: Workspace, register: Register, tmp_path: Path) -> None:
    record = register(record_of(ced_bytes()))
    file = written(tmp_path / "their.safetensors", ced_bytes())
    add(workspace, "ced-tiny", file, accept=yes)
    load("ced-tiny", workspace)
    path = weights_path(workspace, record)
    path.write_bytes(ced_bytes(seed=1))
    assert verify(workspace, "ced-tiny").state == "damaged"
    with pytest.raises(InputError, match=r"damaged.*asdbench weights get ced-tiny"):
        load("ced-tiny", workspace)
    add(workspace, "ced-tiny", file, accept=yes)
    assert verify(workspace, "ced-tiny").state == "intact"
    assert load("ced-tiny", workspace)


def test_without_published_checksum_the_first_file_is_compared_with(
    workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    register(record_of(ced_bytes(), known=False))
    file = written(tmp_path / "first.safetensors", ced_bytes())
    receipt = add(workspace, "ced-tiny", file, accept=yes)
    assert receipt.first_use
    assert read_receipt(workspace, "ced-tiny") == receipt
    assert verify(workspace, "ced-tiny").expected == receipt.sha256
    another = written(tmp_path / "second.safetensors", ced_bytes(seed=1))
    with pytest.raises(InputError, match="its SHA-256 is"):
        add(workspace, "ced-tiny", another, accept=yes)


def test_a_file_that_is_not_the_weights_is_refused(
    workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    register(record_of(ced_bytes()))
    with pytest.raises(InputError, match="it has 3 bytes, not"):
        add(workspace, "ced-tiny", written(tmp_path / "short", b"abc"), accept=yes)
    with pytest.raises(InputError, match="its SHA-256 is"):
        add(workspace, "ced-tiny", written(tmp_path / "another", ced_bytes(seed=1)), accept=yes)
    with pytest.raises(InputError, match="there is no file"):
        add(workspace, "ced-tiny", tmp_path / "nothing", accept=yes)
    with pytest.raises(InputError, match=r"Apache-2\.0.*--accept-license"):
        add(workspace, "ced-tiny", written(tmp_path / "right", ced_bytes()), accept=lambda _: False)
    assert verify(workspace, "ced-tiny").state == "missing"


class _Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, (f"open({str(self.trace)!r}, 'w').close()",)


@pytest.mark.parametrize("packed", ["torch", "legacy torch", "pickle"])
def test_a_malicious_pickle_is_refused_and_executes_nothing(
    packed: str, workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    trace = tmp_path / "executed"
    content = io.BytesIO()
    malicious = {"model": {"weight": torch.zeros(1)}, "cfg": _Malicious(trace)}
    if packed == "pickle":
        pickle.dump(malicious, content)
    else:
        torch.save(malicious, content, _use_new_zipfile_serialization=packed == "torch")
    file = written(tmp_path / "BEATs.pt", content.getvalue())
    register(record_of(content.getvalue(), weights_id="beats-iter3"))
    with pytest.raises(InputError, match="Python objects other than tensors, which are never loaded"):
        add(workspace, "beats-iter3", file, accept=yes)
    assert not trace.exists()
    torch.load(file, weights_only=False) if packed != "pickle" else pickle.loads(content.getvalue())
    assert trace.exists()  # so the file would have done harm


@pytest.mark.parametrize("weights_id", ["ced-tiny", "beats-iter3"])
@pytest.mark.parametrize("content", [b"<html>not found</html>", b"", b"version https://git-lfs", b"\0" * 64])
def test_what_holds_no_tensors_is_refused(
    weights_id: str, content: bytes, workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    register(replace(record_of(content, known=False, weights_id=weights_id)))
    with pytest.raises(InputError, match="it is no"):
        add(workspace, weights_id, written(tmp_path / "file", content), accept=yes)


def test_tensors_of_another_network_are_refused(
    workspace: Workspace, register: Register, tmp_path: Path
) -> None:
    content = save({"decoder.weight": torch.zeros(2)})
    register(record_of(content))
    with pytest.raises(InputError, match=r"no tensors whose names begin with 'encoder\.'"):
        add(workspace, "ced-tiny", written(tmp_path / "file", content), accept=yes)
