"""Rows of all processes: partners that do not depend on how rows are spread."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from asdbench.nn.all_rows import PADDING, AllRows, partners


def test_partners_are_a_cycle_through_all_rows() -> None:
    keys = torch.tensor([50, 20, 90, 10, 70])
    partner = partners(keys, keys)
    assert keys[partner].tolist() == [70, 50, 10, 20, 90]
    place, seen = 0, []
    for _ in keys:
        place = int(partner[place])
        seen.append(place)
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_padding_is_nobodys_partner() -> None:
    keys = torch.tensor([50, PADDING, 20, 90, PADDING, 10])
    assert keys[partners(torch.tensor([90, 10]), keys)].tolist() == [10, 20]


def test_a_single_row_is_its_own_partner() -> None:
    assert partners(torch.tensor([3]), torch.tensor([3])).tolist() == [0]


def _gather(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    keys = torch.arange(5)[rank::2]
    module = AllRows()
    module.share(None, rows=5)
    calls: list[Any] = []
    sent = dist.all_gather

    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return sent(*arguments, **named)

    dist.all_gather = counted
    columns = keys, keys[:, None].expand(-1, 3).float(), keys % 2 == 0
    shared = module(*columns)
    torch.save([shared, module.eval()(*columns), len(calls)], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.cluster
def test_every_process_gets_all_rows_in_training_by_one_collective(tmp_path: Path) -> None:
    mp.spawn(_gather, (str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    for rank in range(2):
        (keys, rows, even), alone, n_collectives = torch.load(tmp_path / f"{rank}.pt")
        assert n_collectives == 1
        assert keys.tolist() == [0, 2, 4, 1, 3, PADDING]
        assert rows.tolist() == [[value] * 3 for value in (0.0, 2.0, 4.0, 1.0, 3.0, 0.0)]
        assert even.tolist() == [True, True, True, False, False, False]
        assert alone[1].tolist() == [[value] * 3 for value in (0, 1, 2, 3, 4)[rank::2]]
