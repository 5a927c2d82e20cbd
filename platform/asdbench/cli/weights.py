"""The commands of ``asdbench weights``: list, download, add and verify weights of pretrained encoders."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from asdbench.cli.confirm import is_confirmed
from asdbench.cli.options import Flag, Strings, TableFormat
from asdbench.cli.output import format_of, message_console, print_line, print_report, print_result
from asdbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from asdbench.weights.records import License
    from asdbench.weights.store import Receipt

weights_app = App(name="weights", help="List, download, add and verify weights of pretrained encoders.")


@weights_app.command(name="list")
def list_weights(*, format: TableFormat = "table", json: Flag = False) -> None:
    """List the pretrained encoders, with the license and the training data of their weights.

    Parameters
    ----------
    format
        Output format.
    json
        The same as --format json.
    """
    from asdbench.api.weights import pretrained_weights

    print_report(pretrained_weights(), format_of(format, json=json))


@weights_app.command
def get(ids: Strings, /, *, accept_license: Flag = False, timeout: float = 7200.0) -> None:
    """Download weights, verify and keep them; rerun to resume.

    Mirrors are tried in turn. A file is kept only if its size and SHA-256 are right and it holds nothing but
    tensors. Where nobody has published a SHA-256, the first download is trusted and later ones are compared
    with it.

    Parameters
    ----------
    ids
        Ids of weights; 'asdbench weights list' shows them.
    accept_license
        Accept the licenses without being asked.
    timeout
        The most that each mirror may take, in seconds.
    """
    from asdbench.api.weights import get_weights

    if timeout <= 0:
        raise InputError(f"--timeout {timeout:g} is not a positive number of seconds")
    for weights_id in ids:
        receipt = get_weights(
            weights_id,
            accept_license=_asker(weights_id, accept_license),
            timeout_s=timeout,
            say=lambda line: print_line(f"note: {line}"),
            progress=message_console(),
        )
        _show_receipt(receipt)


@weights_app.command
def add(id: str, *, from_: Annotated[Path, Parameter(name="--from")], accept_license: Flag = False) -> None:
    """Add weights from a file that was downloaded in another way, with the same checks.

    Parameters
    ----------
    id
        Id of the weights.
    from_
        The file as its publisher distributes it; it is copied.
    accept_license
        Accept the license without being asked.
    """
    from asdbench.api.weights import add_weights

    _show_receipt(add_weights(id, from_, accept_license=_asker(id, accept_license)))


@weights_app.command
def verify(ids: Strings = (), /, *, format: TableFormat = "table", json: Flag = False) -> int:
    """Compare the files of weights with their SHA-256; exits with code 1 if one is damaged.

    Parameters
    ----------
    ids
        Ids of weights (default: all that are installed).
    format
        Output format.
    json
        The same as --format json.
    """
    from asdbench.api.weights import verify_weights

    chosen = format_of(format, json=json)
    verified = verify_weights(ids)
    if verified.rows or chosen != "table":
        print_report(verified, chosen)
    else:
        print_line("no weights are installed; 'asdbench weights get ID' downloads some")
    if verified.damaged:
        print_line(
            f"to replace what is damaged: 'asdbench weights get {' '.join(verified.damaged)}'", stderr=True
        )
    return 1 if verified.damaged else 0


def _asker(weights_id: str, is_accepted: bool) -> "Callable[[License], bool]":
    """Return the function that shows a license and returns whether it is accepted."""

    def ask(license: "License") -> bool:
        print_result(f"license of {weights_id}: {license.name} ({license.url})")
        return is_accepted or (sys.stdin.isatty() and is_confirmed("Accept it?", yes=False))

    return ask


def _show_receipt(receipt: "Receipt") -> None:
    from asdbench.io.download import shown_bytes

    print_line(f"{receipt.weights}: {shown_bytes(receipt.size_bytes)} from {receipt.source}")
    if receipt.first_use:
        print_line(
            f"note: nobody has published a SHA-256 of {receipt.weights}; this first file is trusted, and "
            f"every later one is compared with it"
        )
