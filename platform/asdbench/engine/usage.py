"""What runs under way use, so that nobody removes it from under them.

A run says what it works on in two places: in its record (`asdbench.engine.run_record`), whose command names
the data set, and in its claims (`asdbench.engine.claims`). The parameter ``root`` is the storage of the job
store.
"""

import shlex
import time
from collections.abc import Collection

from asdbench.engine.claims import live_claims
from asdbench.engine.run_record import RunStatus, load_runs
from asdbench.errors import InputError
from asdbench.io.storage import Storage


def check_unused(root: Storage, data: Collection[str], claims: Collection[str] = ()) -> None:
    """Check that no run under way may use some data sets, or holds some claims.

    A run whose command names no data set, such as a script's, may use all of them.

    Parameters
    ----------
    root : the storage of the job store
    data : names of data sets
    claims : names of claims: keys of trainings, and ``searches/<key>``

    Raises
    ------
    InputError
        A run does.
    """
    now = time.time()
    for run in load_runs(root)[0]:
        if run.unheard_s(now) is None and _may_use(run, data):
            raise InputError(
                f"the run {run.command!r} of {run.user} on {run.host} is under way and may use "
                f"{', '.join(map(repr, sorted(data)))}; wait for its end, or stop it ('asdbench status' "
                f"shows it)"
            )
    for name, holder in live_claims(root).items():
        if name in claims:
            raise InputError(f"{holder} works on {name}; wait for its end, or stop it")


def _may_use(run: RunStatus, data: Collection[str]) -> bool:
    words = [word for part in shlex.split(run.command) for word in part.split("=", 1)]
    return "--data" not in words or not set(data).isdisjoint(words)
