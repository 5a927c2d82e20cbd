import pytest
import torch

from asdbench.data.clip_windows import Standardization
from asdbench.data.preparation import BatchPreparation
from asdbench.data.raw_batch import RawBatch
from asdbench.spec import MelSpec
from asdbench.system import ClipBatch

ROWS, MEL = 6, 4


def raw() -> RawBatch:
    generator = torch.Generator().manual_seed(0)
    machine = torch.tensor([0, 2, 1, 0, 1, 2])
    return RawBatch(
        windows=torch.randn(ROWS, 5, MEL, generator=generator).half(),
        clip=torch.arange(ROWS),
        n_clips=ROWS,
        machine=machine,
        section=torch.zeros_like(machine),
        own_rows=2,
        samples=torch.randint(-32768, 32767, (ROWS, 8), dtype=torch.int16, generator=generator),
        features={"wide": torch.randn(ROWS, 3, 2, generator=generator).half()},
        encoded=torch.randn(ROWS, 2, 1, 3, generator=generator).half(),
    )


def statistics(machines: int, n_mels: int) -> Standardization:
    values = torch.randn(2, machines, n_mels, generator=torch.Generator().manual_seed(1))
    return Standardization(values[0], values[1].exp())


def test_without_statistics_values_stay_in_decibels() -> None:
    stored = raw()
    batch = BatchPreparation(MelSpec(n_mels=MEL))(stored)
    assert isinstance(batch, ClipBatch)
    assert torch.equal(batch.windows, stored.windows.float())
    assert torch.equal(batch.features["wide"], stored.features["wide"].float())
    assert torch.equal(batch.encoded, stored.encoded.float())  # type: ignore[union-attr, arg-type]
    assert torch.equal(batch.waveform, stored.samples.float() / 32768)  # type: ignore[union-attr, arg-type]
    assert batch.own_rows == 2


@pytest.mark.parametrize("machines", [1, 3])
def test_rows_get_the_statistics_of_their_machine_types(machines: int) -> None:
    stored, of_windows, of_wide = raw(), statistics(machines, MEL), statistics(machines, 2)
    before = stored.windows.clone()
    batch = BatchPreparation(MelSpec(n_mels=MEL), of_windows, {"wide": of_wide})(stored)
    for row, machine in enumerate(stored.machine.tolist()):
        which = machine if machines > 1 else 0
        expected = (stored.windows[row].float() - of_windows.mean[which]) / of_windows.deviation[which]
        assert torch.equal(batch.windows[row], expected)
        wide = (stored.features["wide"][row].float() - of_wide.mean[which]) / of_wide.deviation[which]
        assert torch.equal(batch.features["wide"][row], wide)
    assert torch.equal(stored.windows, before)


def test_the_preparation_compiles_whole() -> None:
    preparation = BatchPreparation(MelSpec(n_mels=MEL), statistics(3, MEL), {"wide": statistics(3, 2)})
    compiled = torch.compile(preparation, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(raw()).windows, preparation(raw()).windows)


def test_its_constants_move_with_it() -> None:
    preparation = BatchPreparation(MelSpec(n_mels=MEL), statistics(3, MEL), {"wide": statistics(3, 2)})
    assert {buffer.device.type for buffer in preparation.to("meta").buffers()} == {"meta"}
    assert len(list(preparation.buffers())) == 4


def test_a_raw_batch_moves_with_all_its_tensors() -> None:
    stored = raw()
    assert stored.to(torch.device("cpu")) is stored
    moved = stored.to(torch.device("meta"))
    assert len(moved.tensors()) == 7
    assert {tensor.device.type for tensor in moved.tensors()} == {"meta"}
    assert stored.nbytes == ROWS * (5 * MEL * 2 + 3 * 8 + 8 * 2 + 3 * 2 * 2 + 2 * 3 * 2)
