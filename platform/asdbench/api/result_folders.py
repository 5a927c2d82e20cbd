"""Results as folders that others can send and read: importing, exporting and checking them."""

from pathlib import Path

from asdbench.api.surroundings import results_of, workspace_of
from asdbench.metrics import DEFAULT_THRESHOLD
from asdbench.report.imported_results import ImportedResult, import_result
from asdbench.report.result_export import export_result
from asdbench.report.result_folder import CheckedResults, check_repository


def import_results(
    path: Path | str,
    *,
    name: str,
    data: str,
    source: str | None = None,
    license: str | None = None,
    replace: bool = False,
    home: Path | str | None = None,
) -> ImportedResult:
    """Import the scores of any system, as submission CSV files, as a row of the leaderboard.

    Parameters
    ----------
    path
        Folder or zip file with ``anomaly_score_*.csv``, in folders ``seed-0``, ``seed-1`` and so on for
        several runs.
    name
        Name of the row.
    data
        Name of a registered data set whose test clips were scored.
    source, license
        Where the scores come from, such as an address, and under which license they may be used.
    replace
        Whether an imported result of the same name is replaced.
    home
        The data home; by default that of the command line.

    Returns
    -------
    ImportedResult
        With its ``record``, which has ``subsets``, ``seeds`` and the SHA-256 of each file, and its ``folder``
        in the data home.

    Raises
    ------
    InputError
        The name is taken or not allowed; a file, a clip or a label is missing; a clip is unknown or listed
        twice; a score is not finite; the zip is damaged, too large, or has a path out of it. Nothing is
        imported then.

    Examples
    --------
    >>> folder = asdbench.export_results("baseline-mse", data="demo", to=recordings.parent / "sent")
    >>> asdbench.import_results(folder, name="theirs", data="demo", source="a letter").record.seeds
    (0,)
    >>> sorted(asdbench.leaderboard("demo").frame["system"])
    ['baseline-maha', 'baseline-mse', 'theirs']
    >>> asdbench.compare("baseline-mse", "theirs", data="demo", resamples=100).difference
    0.0
    """
    return import_result(
        Path(path), workspace_of(home), name=name, data=data, source=source, license=license, replace=replace
    )


def export_results(
    row: str | int,
    *,
    data: str,
    to: Path | str,
    name: str | None = None,
    subset: str | None = None,
    threshold: str = DEFAULT_THRESHOLD,
    source: str | None = None,
    license: str | None = None,
    home: Path | str | None = None,
    storage: str | None = None,
) -> Path:
    """Write the scores of a row of the leaderboard in the form that :func:`asdbench.import_results` reads.

    Parameters
    ----------
    row
        A row of the leaderboard, as :func:`asdbench.compare` takes it.
    data
        Name of a registered data set.
    to
        Folder of results; the row is written to ``DATA/NAME`` in it.
    name
        Name of the result; by default that of the row with its changed settings.
    subset
        ``"dev"`` or ``"eval"``; by default dev if any of its test clips has a label, else eval.
    threshold
        Method of the decision threshold: ``"empirical"``, ``"gamma"`` or ``"tail"``.
    source, license
        Where the scores come from, such as an address, and under which license they may be used.
    home, storage
        The data home, and where results are; by default those of the command line.

    Returns
    -------
    Path
        The folder that was written.

    Raises
    ------
    InputError
        The row does not exist, is not ours or lacks scores; or the folder exists or cannot be written.

    Examples
    --------
    >>> folder = asdbench.export_results("baseline-mse", data="demo", to=recordings.parent / "results")
    >>> folder.relative_to(recordings.parent).as_posix()
    'results/demo/baseline-mse-epochs-2-hidden-8'
    >>> sorted(path.name for path in folder.iterdir())
    ['result.json', 'seed-0']
    """
    return export_result(
        row,
        results_of(home, storage),
        data=data,
        folder=Path(to),
        name=name,
        subset=subset,
        threshold=threshold,
        source=source,
        license=license,
    )


def check_results(folder: Path | str) -> CheckedResults:
    """Check a repository of results, result by result: ``result.json``, checksums and CSV files.

    It reads no recording and no label.

    Parameters
    ----------
    folder
        Folder with results as ``DATA/NAME``, or one that holds such a folder as ``results``.

    Returns
    -------
    CheckedResults
        ``ok`` says whether there is no problem; ``problems`` and ``rows`` have each one.

    Raises
    ------
    InputError
        There is no such folder, or no result in it.

    Examples
    --------
    >>> repository = recordings.parent / "repository"
    >>> folder = asdbench.export_results(1, data="demo", to=repository / "results", name="ours")
    >>> asdbench.check_results(repository).ok
    True
    >>> (folder / "seed-0" / "anomaly_score_fan_section_00_test.csv").unlink()
    >>> asdbench.check_results(repository).problems[0]
    'demo/ours: seed-0/anomaly_score_fan_section_00_test.csv is missing'
    """
    return check_repository(Path(folder))
