"""Commands that messages advise: ``asdbench run``, ``tune`` and ``fuse`` with all that they depend on."""

import shlex
from collections.abc import Mapping, Sequence

from asdbench.config import typed


def run_command(
    systems: Sequence[str],
    data: str,
    *,
    seeds: Sequence[int] = (),
    machines: Sequence[str] = (),
    subset: str | None = None,
    settings: Mapping[str, object] | None = None,
    preset: str | None = None,
    pseudo_anomaly_data: str | None = None,
) -> str:
    """Return the ``asdbench run`` command of a request, quoted for a shell.

    Parameters
    ----------
    systems, data : names of the systems and of the data set
    seeds, machines, subset, settings, preset, pseudo_anomaly_data : as the options of ``asdbench run``

    Examples
    --------
    >>> run_command(["baseline-mse"], "my data", seeds=[0, 1], preset="fast", settings={"epochs": 30})
    "asdbench run baseline-mse --data 'my data' --seeds 0 1 --preset fast --set epochs=30"
    """
    words = ["asdbench", "run", *systems, "--data", data]
    if machines:
        words += ["--machines", *machines]
    if subset is not None:
        words += ["--subset", subset]
    return shlex.join(words + _options(seeds, settings, preset, pseudo_anomaly_data))


def tune_command(
    systems: Sequence[str],
    data: str,
    *,
    trials: int,
    protocol: str = "dev",
    search: Mapping[str, object] | None = None,
    seeds: Sequence[int] = (),
    machines: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    preset: str | None = None,
    pseudo_anomaly_data: str | None = None,
) -> str:
    """Return the ``asdbench tune`` command of a search, quoted for a shell.

    Parameters
    ----------
    systems, data, trials, protocol : of the search
    search : further options of the search, by name, such as ``{"max-cost": "fusion"}``
    seeds, machines, settings, preset, pseudo_anomaly_data : as the options of ``asdbench tune``

    Examples
    --------
    >>> tune_command(["baseline-mse"], "demo", trials=20, protocol="leave-one-type-out", seeds=[0])
    'asdbench tune baseline-mse --data demo --trials 20 --protocol leave-one-type-out --seeds 0'
    """
    words = ["asdbench", "tune", *systems, "--data", data, "--trials", str(trials), "--protocol", protocol]
    for name, value in (search or {}).items():
        words += [f"--{name}", *(map(str, value) if isinstance(value, list | tuple) else [str(value)])]
    if machines:
        words += ["--machines", *machines]
    return shlex.join(words + _options(seeds, settings, preset, pseudo_anomaly_data))


def fuse_command(
    ensemble: str,
    members: Sequence[str],
    data: str,
    *,
    seeds: Sequence[int] = (),
    settings: Mapping[str, object] | None = None,
    pseudo_anomaly_data: str | None = None,
) -> str:
    """Return the ``asdbench fuse`` command that searches the weights of an ensemble, quoted for a shell.

    Examples
    --------
    >>> fuse_command("ensemble", ["baseline-mse", "baseline-maha"], "demo", seeds=[0])
    'asdbench fuse baseline-mse baseline-maha --data demo --ensemble ensemble --seeds 0'
    """
    words = ["asdbench", "fuse", *members, "--data", data, "--ensemble", ensemble]
    return shlex.join(words + _options(seeds, settings, None, pseudo_anomaly_data))


def _options(
    seeds: Sequence[int],
    settings: Mapping[str, object] | None,
    preset: str | None,
    pseudo_anomaly_data: str | None,
) -> list[str]:
    """Return the options that running, comparing and fusing share."""
    words = ["--seeds", *map(str, seeds)] if seeds else []
    if preset is not None:
        words += ["--preset", preset]
    if pseudo_anomaly_data is not None:
        words += ["--pseudo-anomalies-from", pseudo_anomaly_data]
    if settings:
        words += ["--set", *(f"{name}={typed(value)}" for name, value in settings.items())]
    return words
