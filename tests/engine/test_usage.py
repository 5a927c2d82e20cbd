"""What runs under way use."""

import time

import msgspec
import pytest

from asdbench.engine.claims import claim
from asdbench.engine.run_record import RunStatus, save_run
from asdbench.engine.usage import check_unused
from asdbench.errors import InputError
from asdbench.io.storage import Storage


@pytest.mark.parametrize(
    ("command", "is_used"),
    [
        ("asdbench run ensemble --data tiny", True),
        ("asdbench run ensemble --data=tiny", True),
        ("asdbench run ensemble --data other", False),
        ("asdbench run ensemble --data other --pseudo-anomalies-from tiny", True),
        ("python sweep.py", True),
    ],
)
def test_a_run_uses_the_data_sets_of_its_command(tmp_path: str, command: str, is_used: bool) -> None:
    root = Storage.from_location(tmp_path)
    run = RunStatus.from_command(command)
    save_run(root, run)
    if is_used:
        with pytest.raises(InputError, match=rf"the run '{command}' .* may use 'tiny'; wait for its end"):
            check_unused(root, ["tiny"])
    else:
        check_unused(root, ["tiny"])
    save_run(root, msgspec.structs.replace(run, heartbeat_unix_s=time.time() - 60))
    check_unused(root, ["tiny"])


def test_a_claim_holds_a_training(tmp_path: str) -> None:
    root = Storage.from_location(tmp_path)
    with claim(root, "abc", run="theirs"):
        check_unused(root, [], ["def"])
        with pytest.raises(InputError, match=r"run theirs of .* works on abc; wait for its end"):
            check_unused(root, [], ["abc"])
    check_unused(root, [], ["abc"])
