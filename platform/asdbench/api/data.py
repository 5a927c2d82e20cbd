"""Registering and listing data sets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asdbench.api.file_progress import FileProgress
from asdbench.api.surroundings import Progress, console_of, workspace_of
from asdbench.data.audio import ChannelPolicy
from asdbench.data.sets import catalog
from asdbench.data.sets.catalog import DataSet
from asdbench.data.sets.layouts import named_layout
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row, numeric

DEMO_CLIPS = 100  # training clips of a machine type of the embedded data set


@dataclass(frozen=True)
class DataSets(Report):
    """The registered data sets.

    Attributes
    ----------
    data_sets : by name, sorted
    """

    data_sets: tuple[DataSet, ...]

    @property
    def names(self) -> list[str]:
        """Names of the data sets."""
        return [data.name for data in self.data_sets]

    @property
    def rows(self) -> Sequence[Row]:
        """One dict for each data set: ``name``, ``machine_types``, ``clips`` (their number), ``folder``."""
        return [described(data) for data in self.data_sets]

    def tables(self) -> list[DisplayTable]:
        """Return a table with a row for each data set."""
        rows = [
            DisplayRow([row["name"], str(len(row["machine_types"])), str(row["clips"]), row["folder"]])
            for row in self.rows
        ]
        return [
            DisplayTable([Column("data set"), *numeric("machine types", "clips"), Column("folder")], rows)
        ]


def described(data: DataSet) -> Row:
    """Return what a data set is, for programs."""
    return {
        "name": data.name,
        "machine_types": list(data.machine_types),
        "clips": data.clips.height,
        "folder": str(data.root),
    }


def described_in_full(data: DataSet) -> Row:
    """Return what a data set is, the tables of :func:`asdbench.data.sets.catalog.describe`, and the hold-out.

    ``hold_out`` has the rows of :func:`asdbench.data.holdout.describe`.
    """
    from asdbench.data import holdout

    description = catalog.describe(data)
    return {
        **described(data),
        "counts": description.counts.to_dicts(),
        "durations": description.durations.to_dicts(),
        "formats": description.formats.to_dicts(),
        "attributes": description.attributes.to_dicts(),
        "hold_out": holdout.describe(data.clips.filter(split="train")).to_dicts(),
        "license": description.license,
        "notes": list(description.notes),
        "shared_recordings": list(data.shared_recordings),
        "skipped": [asdict(bad) for bad in data.left_out],
    }


def data_sets(*, home: Path | str | None = None) -> DataSets:
    """Return the registered data sets.

    Parameters
    ----------
    home
        The data home; by default that of the command line.

    Examples
    --------
    >>> asdbench.data_sets().names
    ['demo']
    """
    workspace = workspace_of(home)
    return DataSets(tuple(catalog.load(workspace, name) for name in sorted(catalog.names(workspace))))


def add_data(
    name: str,
    folder: Path | str,
    *,
    layout: str | None = None,
    manifest: Path | str | None = None,
    channels: ChannelPolicy | None = None,
    skip_bad: bool = False,
    allow_shared_recordings: bool = False,
    home: Path | str | None = None,
    progress: Progress = None,
) -> DataSet:
    """Register a folder of recordings, in a layout of DCASE Challenge Task 2 or described by a manifest.

    Recordings stay where they are and are only read.

    Parameters
    ----------
    name
        Name of the data set; an existing data set of this name is replaced.
    folder
        Folder with one folder per machine type, each with ``train/`` and ``test/``; or with ``dev_data/`` and
        ``eval_data/``.
    layout
        Layout of the folder, if it cannot be inferred: ``"machine-ids"``, ``"domain-folders"``,
        ``"sections"``, ``"sections-with-supplement"`` or ``"two-microphones"``.
    manifest
        CSV or Parquet table with one row per clip.
    channels
        How to reduce several channels to one: ``"near"``, ``"far"``, ``"both"`` or ``"mean"``; by default
        near for two microphones, else mean.
    skip_bad
        Skip bad files instead of rejecting the folder; they are in ``left_out`` of the data set.
    allow_shared_recordings
        Accept recordings that training and test clips of a domain share, and test clips that are probably
        copies of training clips. ``shared_recordings`` of the data set names them, and all results on it are
        marked.
    home
        The data home; by default that of the command line.
    progress
        Where to show the progress, as in :func:`asdbench.run`.

    Returns
    -------
    DataSet
        With ``clips`` (the clip table), ``machine_types``, ``notes`` and ``left_out``.

    Raises
    ------
    InputError
        The folder has bad files, which ``bad`` of the error lists, or no usable ones; training and test clips
        share recordings; or an argument is invalid. Nothing is registered or changed then.

    Examples
    --------
    >>> data = asdbench.add_data("factory", recordings)
    >>> data.machine_types
    ('fan', 'valve')
    """
    chosen = None if layout is None else named_layout(layout)
    with FileProgress("reading", console_of(progress)) as bar:
        return catalog.add(
            workspace_of(home),
            name,
            Path(folder),
            layout=chosen,
            manifest=None if manifest is None else Path(manifest),
            channels=channels,
            skip_bad=skip_bad,
            allow_shared_recordings=allow_shared_recordings,
            progress=bar,
        )


def add_demo_data(
    name: str = "demo",
    *,
    clips_per_type: int | None = None,
    seed: int = 0,
    home: Path | str | None = None,
    progress: Progress = None,
) -> DataSet:
    """Generate the embedded data set under the data home, unless it exists, and register it.

    It has synthetic sounds of seven machine types. Worker processes write the clips; a script that calls this
    needs the usual ``if __name__ == "__main__"``.

    Parameters
    ----------
    name
        Name of the data set.
    clips_per_type
        Number of training clips per machine type, at least 20; 100 by default.
    seed
        Random seed of the generator.
    home
        The data home; by default that of the command line.
    progress
        Where to show the progress, as in :func:`asdbench.run`.

    Raises
    ------
    InputError
        There are too few clips per type, or the data home cannot be written.

    Examples
    --------
    >>> asdbench.add_demo_data(clips_per_type=3)
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: ...3...
    """
    from asdbench.data.synthetic.dataset import write_demo

    workspace, console = workspace_of(home), console_of(progress)
    workspace.check_home()
    clips = DEMO_CLIPS if clips_per_type is None else clips_per_type
    folder = workspace.home / "recordings" / f"demo-{clips}-seed{seed}"
    with FileProgress("writing", console) as bar:
        write_demo(folder, clips_per_type=clips, seed=seed, progress=bar)
    with FileProgress("reading", console) as bar:
        return catalog.add(workspace, name, folder, progress=bar)
