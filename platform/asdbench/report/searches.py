"""Tables of what searches found, for people: in percent, with what was left out beside what was chosen on."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from asdbench.report.tables import short


def fusion_table(ensemble: str, report: Mapping[str, Any]) -> Table:
    """Return the weights that were found for an ensemble, and their scores beside those of equal weights.

    ``report`` is that of a stored fusion: ``members``, ``weights``, ``choices``, ``score``,
    ``equal_weights``, ``left_out`` (by machine type ``weights`` and ``score``) and ``leave_one_type_out``.
    """
    members = report["members"]
    table = _table(
        f"Weights of {ensemble} ({' '.join(short(report['choices']))})",
        "Official scores in percent. Without: each machine type with the weights found without it.",
    )
    table.add_column("")
    for header in (*members, "official score"):
        table.add_column(header, justify="right")
    table.add_row("equal", *[f"{1 / len(members):.3f}"] * len(members), _percent(report["equal_weights"]))
    table.add_row("found", *(f"{weight:.3f}" for weight in report["weights"]), _percent(report["score"]))
    if report["left_out"]:
        table.add_section()
        for machine_type, of in report["left_out"].items():
            weights = (f"{weight:.3f}" for weight in of["weights"])
            table.add_row(f"without {machine_type}", *weights, _percent(of["score"]))
        table.add_row("left out, all", *[""] * len(members), _percent(report["leave_one_type_out"]))
    return table


def left_out_table(
    title: str,
    rows: Sequence[tuple[str, float, float, Mapping[str, Any]]],
    *,
    untuned: float,
    tuned: float,
) -> Table:
    """Return what tuning is worth on machine types that had no part in it.

    A row is a machine type left out, its official score untuned and tuned, and the settings found without it;
    ``untuned`` and ``tuned`` are the official scores over all of them.
    """
    table = _table(
        title, "Official score in percent on the machine type that had no part in choosing the settings."
    )
    table.add_column("machine type left out")
    table.add_column("untuned", justify="right")
    table.add_column("tuned", justify="right")
    table.add_column("settings found", overflow="fold")
    for machine_type, before, after, changed in rows:
        table.add_row(
            machine_type, _percent(before), _percent(after), " ".join(short(changed)) or "as untuned"
        )
    table.add_section()
    table.add_row("all", _percent(untuned), _percent(tuned), "")
    return table


def _table(title: str, caption: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        caption_style="",
        box=box.SIMPLE_HEAD,
    )


def _percent(score: float) -> str:
    return f"{100 * score:.2f}"
