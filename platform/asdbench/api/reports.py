"""Stored results: the leaderboard, a system's scores, and the comparison of two systems."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from asdbench.api.surroundings import results_of
from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.clip_scores import Scores, clip_scores
from asdbench.report.comparison import Comparison, load_comparison
from asdbench.report.leaderboard_selection import Selection
from asdbench.report.leaderboard_view import Leaderboard, load_leaderboard
from asdbench.report.ranks import Ranks, load_ranks
from asdbench.report.stored_runs import StoredRunOptions


def leaderboard(
    data: str,
    *,
    by_type: bool = False,
    subset: str | None = None,
    systems: Sequence[str] = (),
    preset: str | None = None,
    top: int | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    reference: bool = False,
    intervals: bool = False,
    home: Path | str | None = None,
    storage: str | None = None,
) -> Leaderboard:
    """Return the systems on a data set, the best official score first.

    Parameters
    ----------
    data
        Name of a registered data set.
    by_type
        Whether to return one row per machine type.
    subset
        ``"dev"`` (development) or ``"eval"`` (evaluation); by default dev if any of its test clips has a
        label, else eval.
    systems
        Names of systems; all by default.
    preset
        Only rows with the settings of this preset, and those that a search has found from them.
    top
        Only so many of the best rows, of each machine type with ``by_type``.
    threshold
        Method of the decision threshold used for precision, recall and F1: ``"empirical"``, ``"gamma"`` or
        ``"tail"``.
    reference
        Whether to add published results on the same machine types, marked as such.
    intervals
        Whether to add 95 % confidence intervals of each score: on these machines, and on machines like these.
    home, storage
        The data home, and where results are; by default those of the command line.

    Returns
    -------
    Leaderboard
        Printed, a table in percent. ``rows`` and ``frame`` hold fractions between 0 and 1 and seconds.

    Raises
    ------
    InputError
        A name does not exist, or the storage cannot be used.

    Examples
    --------
    >>> board = asdbench.leaderboard("demo", systems=["baseline-mse", "baseline-maha"])
    >>> board.frame.columns[:3]
    ['number', 'system', 'settings']
    >>> sorted(board.frame["system"])
    ['baseline-maha', 'baseline-mse']
    >>> 0 < board.rows[0]["official_score"] <= 1
    True
    """
    return load_leaderboard(
        data,
        results_of(home, storage),
        by_type=by_type,
        reference=reference,
        intervals=intervals,
        subset=subset,
        threshold=threshold,
        selection=Selection(names_of(systems), preset, top),
    )


def ranks(
    data: str,
    *,
    subset: str | None = None,
    systems: Sequence[str] = (),
    preset: str | None = None,
    top: int | None = None,
    reference: bool = False,
    home: Path | str | None = None,
    storage: str | None = None,
) -> Ranks:
    """Return the average ranks of systems over machine types, and which of them no test tells apart.

    Parameters
    ----------
    data
        Name of a registered data set.
    subset, systems, preset, top, reference
        Which rows of the leaderboard to rank, as :func:`leaderboard` takes them.
    home, storage
        The data home, and where results are; by default those of the command line.

    Returns
    -------
    Ranks
        Printed, a table and a critical-difference diagram, which ``figure()`` draws. ``friedman`` is the test
        of whether any rows differ.

    Raises
    ------
    InputError
        A name does not exist; or fewer than three rows have a score on all machine types, or there is only
        one machine type.

    Examples
    --------
    >>> asdbench.ranks("demo")
    Traceback (most recent call last):
    asdbench.errors.InputError: ranks take at least three rows with a score on all machine types, ...
    """
    return load_ranks(
        data,
        results_of(home, storage),
        reference=reference,
        subset=subset,
        selection=Selection(names_of(systems), preset, top),
    )


def scores(
    system: str,
    *,
    data: str,
    seed: int = 0,
    machines: Sequence[str] = (),
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    preset: str | None = None,
    settings: Mapping[str, object] | None = None,
    pseudo_anomalies_from: str | None = None,
    home: Path | str | None = None,
    storage: str | None = None,
) -> Scores:
    """Return the stored anomaly scores of a system's test clips.

    Parameters
    ----------
    system
        Name of a system that has been run.
    data
        Name of a registered data set.
    seed
        Random seed of the run.
    machines
        Machine types; all by default.
    subset
        ``"dev"`` or ``"eval"``; both by default.
    threshold
        Method of the decision threshold: ``"empirical"``, ``"gamma"`` or ``"tail"``.
    preset, settings, pseudo_anomalies_from
        Options of the run.
    home, storage
        The data home, and where results are; by default those of the command line.

    Returns
    -------
    Scores
        ``frame`` has one row for each test clip: ``path``, ``machine_type``, ``section``, ``domain``,
        ``subset``, ``label`` (null where it is not known), ``score`` (higher is more anomalous),
        ``threshold`` and ``decision`` (``"anomaly"`` or ``"normal"``).

    Raises
    ------
    InputError
        A name does not exist, or there are no scores of this run; the message gives the command to run.

    Examples
    --------
    >>> scores = asdbench.scores("baseline-mse", data="demo", settings={"epochs": 2, "hidden": 8})
    >>> scores.frame.filter(machine_type="fan").columns[5:]
    ['label', 'score', 'threshold', 'decision']
    >>> sorted(scores.thresholds)
    ['fan', 'valve']
    """
    workspace = results_of(home, storage)
    return clip_scores(
        system,
        catalog.load(workspace, data),
        JobStore.from_workspace(workspace),
        seed=seed,
        machines=names_of(machines),
        subset=subset,
        threshold=threshold,
        settings=StoredRunOptions(preset, settings or {}, pseudo_anomalies_from),
    )


def compare(
    *rows: str | int,
    data: str,
    seeds: Sequence[int] | None = None,
    subset: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, object] | None = None,
    pseudo_anomalies_from: str | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    home: Path | str | None = None,
    storage: str | None = None,
) -> Comparison:
    """Compare rows of the leaderboard: differences of the official score with their intervals.

    Parameters
    ----------
    rows
        Two or more rows; the first is the reference, with which each other one is compared. A row is its
        number on the leaderboard; ``"system"``, ``"system@preset"``, ``"system@key=value"`` or
        ``"system@tuned"``; or the name of an imported or published result.
    data
        Name of a registered data set.
    seeds
        Random seeds to compare; by default those that both rows of a comparison have.
    subset
        ``"dev"`` or ``"eval"``; by default dev if any of its test clips has a label, else eval.
    preset, settings, pseudo_anomalies_from
        Options of the runs of rows that are given by the name of a system alone; each gets those that it has.
    resamples, confidence
        Number of bootstrap resamples, and confidence of the intervals.
    home, storage
        The data home, and where results are; by default those of the command line.

    Returns
    -------
    Comparison
        Printed, a table in percent. ``overall`` has the difference of each row over all machine types, which
        ``difference`` and ``interval`` are for two rows; ``rows`` and ``frame`` have each machine type too.

    Raises
    ------
    InputError
        No row or several match, scores are not stored, or no label is known.

    Examples
    --------
    >>> options = {"settings": {"epochs": 2, "hidden": 8}, "resamples": 100}
    >>> comparison = asdbench.compare("baseline-mse", "baseline-maha", data="demo", **options)
    >>> comparison.frame["machine_type"].to_list()
    ['fan', 'valve', 'all']
    >>> asdbench.compare(1, 2, data="demo", resamples=100).rows[0]["selectors"]
    ['baseline-m...@epochs=2,hidden=8', 'baseline-m...@epochs=2,hidden=8']
    """
    return load_comparison(
        data,
        results_of(home, storage),
        rows,
        seeds=seeds,
        options=StoredRunOptions(preset, settings or {}, pseudo_anomalies_from),
        subset=subset,
        resamples=resamples,
        confidence=confidence,
    )


def names_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return names as a tuple; a single one may be given as a text.

    >>> names_of("fan"), names_of(["fan", "valve"])
    (('fan',), ('fan', 'valve'))
    """
    return (names,) if isinstance(names, str) else tuple(names)
