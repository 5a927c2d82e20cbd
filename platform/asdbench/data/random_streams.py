"""Random streams of the loader, keyed by seed, purpose, and epoch or step; never by process."""

import numpy as np

EPOCH, STEP, VALIDATION, HOLD_OUT = range(4)  # purposes


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return the random stream of ``key`` under ``seed``.

    >>> bool(stream(0, STEP, 7).random() == stream(0, STEP, 7).random() != stream(0, STEP, 8).random())
    True
    """
    return np.random.default_rng([seed, *key])
