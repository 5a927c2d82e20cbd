"""Rows of all processes: partners that do not depend on how rows are spread."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from asdbench.nn.all_rows import AllRows, partners


def test_partners_are_a_cycle_through_all_rows() -> None:
    keys = torch.tensor([50, 20, 90, 10, 70])
    partner = partners(keys, keys)
    assert keys[partner].tolist() == [70, 50, 10, 20, 90]
    place, seen = 0, []
    for _ in keys:
        place = int(partner[place])
        seen.append(place)
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_a_single_row_is_its_own_partner() -> None:
    assert partners(torch.tensor([3]), torch.tensor([3])).tolist() == [0]


def _gather(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    rows = torch.arange(5.0)[rank::2, None].expand(-1, 3)
    module = AllRows()
    module.is_shared = True
    shared = module(rows)
    torch.save([shared, module.eval()(rows)], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.cluster
def test_every_process_gets_all_rows_in_training(tmp_path: Path) -> None:
    mp.spawn(_gather, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    for rank in range(2):
        shared, alone = torch.load(tmp_path / f"{rank}.pt")
        assert shared.tolist() == [[value] * 3 for value in (0, 2, 4, 1, 3)]
        assert alone.tolist() == [[value] * 3 for value in (0, 1, 2, 3, 4)[rank::2]]
