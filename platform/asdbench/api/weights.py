"""Weights of pretrained encoders: listing, downloading, adding and checking them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from asdbench.api.file_progress import FileProgress
from asdbench.api.surroundings import Progress, console_of, workspace_of
from asdbench.errors import InputError
from asdbench.io.download import shown_bytes
from asdbench.io.workspace import Workspace
from asdbench.report.rendering import Column, DisplayRow, DisplayTable, Report, Row
from asdbench.weights import obtain, store
from asdbench.weights.records import RECORDS, License, WeightsRecord
from asdbench.weights.store import Checked, Receipt


@dataclass(frozen=True)
class Weights(Report):
    """The pretrained encoders whose weights are registered.

    Attributes
    ----------
    rows : one dict for each: ``id``, ``installed`` (whether the data home has them), ``damaged`` (whether
        their receipt there cannot be read, or their file has another size), ``size_bytes`` and
        ``sha256`` (``None`` if neither published nor downloaded), ``license`` and ``license_url``,
        ``training_data``, ``repository``, ``revision``, ``mirrors``, ``sample_rate_hz`` (``None`` if any),
        ``layers``, ``dim``, ``hop_ms``, ``bands``, and the ``hyperparameters`` of its network
    """

    rows: tuple[Row, ...]

    @property
    def installed(self) -> list[str]:
        """Ids of the weights that the data home has."""
        return [row["id"] for row in self.rows if row["installed"]]

    def tables(self) -> list[DisplayTable]:
        """Return a table with a row for each encoder."""
        columns = [
            Column("weights", no_wrap=True),
            Column("installed"),
            Column("size", "right", no_wrap=True),
            Column("license", no_wrap=True),
            Column("trained on"),
        ]
        return [DisplayTable(columns, [_displayed(row) for row in self.rows])]


def _displayed(row: Row) -> DisplayRow:
    return DisplayRow(
        [
            row["id"],
            "damaged" if row["damaged"] else "yes" if row["installed"] else "",
            "unknown" if row["size_bytes"] is None else shown_bytes(row["size_bytes"]),
            row["license"],
            row["training_data"],
        ]
    )


@dataclass(frozen=True)
class VerifiedWeights(Report):
    """Weights that were compared with their SHA-256.

    Attributes
    ----------
    rows : one dict for each: ``id``, ``state`` (``"intact"`` or ``"damaged"``), ``sha256`` of the file
        and ``expected`` (``None`` if a damaged receipt hides them), and ``first_use``: whether that is the
        one of the first download, because none has been published
    """

    rows: tuple[Row, ...]

    @property
    def damaged(self) -> list[str]:
        """Ids of the weights that are damaged."""
        return [row["id"] for row in self.rows if row["state"] == "damaged"]

    def tables(self) -> list[DisplayTable]:
        """Return a table with a row for each file."""
        rows = [
            DisplayRow(
                [
                    row["id"],
                    Text(row["state"], style="red" if row["state"] == "damaged" else ""),
                    "the first download" if row["first_use"] else "the published SHA-256",
                ]
            )
            for row in self.rows
        ]
        return [DisplayTable([Column("weights"), Column("state"), Column("compared with")], rows)]


def pretrained_weights(*, home: Path | str | None = None) -> Weights:
    """Return the pretrained encoders whose weights are registered, and which of them the data home has.

    Parameters
    ----------
    home
        The data home; by default that of the command line.

    Examples
    --------
    >>> asdbench.pretrained_weights().installed
    []
    """
    workspace = workspace_of(home)
    return Weights(tuple(_described(record, workspace) for record in RECORDS.values()))


def _described(record: WeightsRecord, workspace: Workspace) -> Row:
    damaged = store.receipt_is_damaged(workspace, record.id)
    receipt = None if damaged else store.read_receipt(workspace, record.id)
    return {
        "id": record.id,
        "damaged": damaged or store.is_damaged_in_size(workspace, record.id),
        "installed": not damaged and store.is_installed(workspace, record.id),
        "size_bytes": record.size_bytes or (receipt.size_bytes if receipt else None),
        "sha256": record.sha256 or (receipt.sha256 if receipt else None),
        "license": record.license.name,
        "license_url": record.license.url,
        "training_data": record.training_data,
        "repository": record.repository,
        "revision": record.revision,
        "mirrors": list(record.mirrors),
        "sample_rate_hz": record.sample_rate_hz,
        "layers": record.grid.layers,
        "dim": record.grid.dim,
        "hop_ms": record.grid.hop_ms,
        "bands": record.grid.bands,
        "hyperparameters": dict(record.hyperparameters),
    }


def get_weights(
    weights_id: str,
    *,
    accept_license: bool | Callable[[License], bool] = False,
    timeout_s: float = obtain.TIMEOUT_S,
    say: Callable[[str], None] = lambda _: None,
    home: Path | str | None = None,
    progress: Progress = None,
) -> Receipt:
    """Download the weights of a pretrained encoder, unless the data home holds them intact.

    The mirrors are tried in turn. The file is kept if its size and SHA-256 are the registered ones and it
    holds tensors only; nothing in it is executed. A call that broke off is resumed by the next one.

    Parameters
    ----------
    weights_id
        Id of the weights, such as ``"beats-iter3"``.
    accept_license
        Whether you accept the license, or a function that is asked with it; only needed once.
    timeout_s
        The most that each mirror may take.
    say
        Called with a line about each mirror that fails.
    home
        The data home; by default that of the command line.
    progress
        Where to show the progress, as in :func:`asdbench.run`.

    Returns
    -------
    Receipt
        With ``sha256``, ``size_bytes``, ``source``, ``license``, and ``first_use``: whether the file was
        trusted because nobody has published its SHA-256.

    Raises
    ------
    InputError
        There is no such id, or the license is not accepted.
    InfrastructureError
        No mirror gives the file; the next call resumes.

    Examples
    --------
    >>> asdbench.get_weights("ced-tiny")
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: the license Apache-2.0 of 'ced-tiny' was not accepted; ...
    """
    with FileProgress(weights_id, console_of(progress), in_bytes=True) as bar:
        return obtain.get(
            workspace_of(home),
            weights_id,
            accept=_acceptance(accept_license),
            say=say,
            progress=bar,
            timeout_s=timeout_s,
        )


def add_weights(
    weights_id: str,
    file: Path | str,
    *,
    accept_license: bool | Callable[[License], bool] = False,
    home: Path | str | None = None,
) -> Receipt:
    """Add the weights of a pretrained encoder from a file, with the checks of :func:`asdbench.get_weights`.

    Parameters
    ----------
    weights_id
        Id of the weights.
    file
        The file as its publisher distributes it; it is copied.
    accept_license, home
        As for :func:`asdbench.get_weights`.

    Raises
    ------
    InputError
        There is no such id or file, the license is not accepted, or the file is not these weights.

    Examples
    --------
    >>> asdbench.add_weights("ced-tiny", "nowhere.safetensors", accept_license=True)
    Traceback (most recent call last):
    ...
    asdbench.errors.InputError: there is no file 'nowhere.safetensors'; ...
    """
    return obtain.add(workspace_of(home), weights_id, Path(file), accept=_acceptance(accept_license))


def _acceptance(accept: bool | Callable[[License], bool]) -> obtain.Accept:
    return lambda record: accept if isinstance(accept, bool) else accept(record.license)


def verify_weights(weights_ids: Sequence[str] = (), *, home: Path | str | None = None) -> VerifiedWeights:
    """Read files of weights and compare each with its SHA-256.

    Parameters
    ----------
    weights_ids
        Ids of the weights; by default all that the data home has.
    home
        The data home; by default that of the command line.

    Raises
    ------
    InputError
        There are no such weights, or the data home does not have them.

    Examples
    --------
    >>> asdbench.verify_weights().damaged
    []
    """
    workspace = workspace_of(home)
    if isinstance(weights_ids, str):
        raise InputError(f"weights_ids is the text {weights_ids!r}; give a list, such as [{weights_ids!r}]")
    present = store.installed_ids(workspace)
    store.check_installed(workspace, [one for one in weights_ids if one not in present])
    checked = [store.verify(workspace, one) for one in weights_ids or present]
    return VerifiedWeights(tuple(_verified(one) for one in checked))


def _verified(checked: Checked) -> Row:
    return {
        "id": checked.id,
        "state": checked.state,
        "sha256": checked.sha256,
        "expected": checked.expected,
        "first_use": checked.first_use,
    }
