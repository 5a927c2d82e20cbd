"""The command line. Commands import heavy modules when they need them, so that help answers at once."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CoercionError, Parameter, Token

from asdbench import __version__
from asdbench.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts would round one with a fraction."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise CoercionError(msg=f"{tokens[0].value!r} is not a whole number", token=tokens[0]) from None


Whole = Annotated[int, Parameter(converter=_whole, n_tokens=1)]
Words = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=(), show_default=False)]
Numbers = Annotated[tuple[Whole, ...], Parameter(consume_multiple=True, negative=())]
Flag = Annotated[bool, Parameter(negative=())]

DEMO_CLIPS = 100  # training clips of a machine type of the embedded data set

app = App(
    name="asdbench",
    version=__version__,
    suppress_keyboard_interrupt=False,  # guarded() says how to go on
    help="A bench for detectors of anomalous machine sound (DCASE Challenge Task 2).",
)
data_app = App(name="data", help="Register, list and describe data sets.")
app.command(data_app)


@Parameter(name="*")
@dataclass(frozen=True)
class RunOptions:
    """What a run takes beside systems and data.

    Attributes
    ----------
    seeds
        Seeds, one run each: --seeds 0 1 2.
    machines
        Machine types; all if not given.
    set
        Settings as key=value; each goes to the systems that have it.
    preset
        Named settings of the systems: demo (quick, for the embedded data).
    local
        Run in this process, without Ray.
    workers
        Processes; one a GPU, or one a CPU where there is no GPU, if not given.
    workers_per_type
        Processes that share the training of one machine type.
    gpus_per_worker
        GPUs of a process; below 1, several share one.
    address
        Ray cluster to run on; RAY_ADDRESS if not given, or 'local', which starts one on this machine.
    checkpoint_epochs
        Epochs between checkpoints.
    """

    seeds: Numbers = (0,)
    machines: Words = ()
    set: Words = ()
    preset: str | None = None
    local: Flag = False
    workers: Whole | None = None
    workers_per_type: Whole = 1
    gpus_per_worker: float = 1.0
    address: str | None = None
    checkpoint_epochs: Whole = 5


@app.command
def run(*systems: str, data: str, options: RunOptions = RunOptions()) -> int:
    """Train and score systems on a data set, judge them and show the leaderboard.

    What is stored is not done again: after an interruption the same command goes on.

    Parameters
    ----------
    systems
        Names of systems; 'asdbench systems' lists them.
    data
        Name of a registered data set.
    """
    return run_systems(systems, data, options)


def run_systems(systems: Sequence[str], data: str, options: RunOptions) -> int:
    """Run systems on a registered data set; returns the exit code."""
    from asdbench.bench import Execution, Request
    from asdbench.bench import run as run_request
    from asdbench.cluster.placement import Placement
    from asdbench.config import parse_assignments
    from asdbench.data import catalogue

    if options.local and options.address is not None:
        raise InputError(
            f"--local runs in this process and --address {options.address} on a cluster; leave one out"
        )
    catalogue.writable_home()
    settings = parse_assignments(options.set)
    request = Request(systems, data, options.seeds, options.machines, settings, options.preset)
    placement = Placement(options.workers, options.workers_per_type, options.gpus_per_worker)
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    execution = Execution(options.local, placement, address, options.checkpoint_epochs)
    return run_request(request, execution, console=_console())


def usable_systems() -> list[str]:
    """Return the names of all systems that can be used; those that cannot are named and left out."""
    from asdbench import registry

    broken = registry.broken()
    for error in broken.values():
        _console().print(f"left out: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    return [name for name in registry.names() if name not in broken]


@app.command
def leaderboard(
    *,
    data: str,
    by: Literal["type"] | None = None,
    format: Literal["table", "csv", "json", "markdown"] = "table",
) -> None:
    """Show the systems on a data set by official score, mean and spread over seeds.

    Parameters
    ----------
    data
        Name of a registered data set.
    by
        'type' for a row each machine type.
    format
        Table for people, or csv, json, markdown.
    """
    from asdbench.bench import show_leaderboard

    show_leaderboard(data, console=_console(stderr=format != "table"), by_type=by == "type", format=format)


@app.command
def systems(name: str | None = None) -> None:
    """List the systems, or the settings of one.

    Parameters
    ----------
    name
        A system, whose settings are listed.
    """
    from rich.table import Table
    from rich.text import Text

    from asdbench import registry
    from asdbench.config import Choice, Range, settings_of

    console = _console()
    if name is None:
        table = Table("system", "from", "what it is", box=None, header_style="bold", pad_edge=False)
        broken = registry.broken()
        for found in registry.names():
            if found in broken:
                table.add_row(found, "", Text(f"broken: {broken[found]}", style="red"))
                continue
            system = registry.get(found)
            described = (sys.modules[system.__module__].__doc__ or "").strip().partition("\n\n")[0]
            table.add_row(found, registry.source(found).place, Text(" ".join(described.split())))
        console.print(table)
        return
    configured = registry.configure(name)
    console.print(
        (sys.modules[configured.system.__module__].__doc__ or "").strip(), markup=False, highlight=False
    )
    table = Table(
        "setting", "default", "searched over", "a change means", box=None, header_style="bold", pad_edge=False
    )
    meaning = {"training": "training anew", "scoring": "scoring anew", "fusion": "weighing anew"}
    for part in (configured.trained, configured):
        for setting in settings_of(part.system.Config).values() if part else ():
            domain = setting.domain
            if isinstance(domain, Range):
                searched = f"{domain.low:g} to {domain.high:g}{' (log)' if domain.log else ''}"
            else:
                searched = ", ".join(map(str, domain.options)) if isinstance(domain, Choice) else ""
            table.add_row(setting.name, str(setting.default), searched, meaning[setting.affects])
    console.print()
    console.print(table)


@app.command
def features(name: str, *, systems: Words = (), preset: str | None = None) -> None:
    """Build the features that systems read from a data set, ahead of a run.

    Parameters
    ----------
    name
        A registered data set.
    systems
        Names of systems; all that can be used if not given.
    preset
        Named settings of the systems: demo.
    """
    from asdbench.bench import Request, build_features, prepare
    from asdbench.data import catalogue

    catalogue.writable_home()
    console = _console()
    jobs = prepare(Request(systems or usable_systems(), name, preset=preset))
    build_features(jobs, console=console)
    console.print(f"the features of {name} are there")


@data_app.command
def add(
    name: str, folder: Path, *, channels: Literal["near", "far", "mean"] = "mean", skip_bad: Flag = False
) -> None:
    """Register a folder of recordings in the layout of DCASE Challenge Task 2 (2023 on).

    Parameters
    ----------
    name
        The name to give it; a data set of that name is replaced.
    folder
        Folder with one folder a machine type, each with train/ and test/.
    channels
        What becomes of several channels: the first (near), the last (far) or their mean.
    skip_bad
        Leave bad files out, instead of refusing the folder.
    """
    from asdbench.data import catalogue

    console = _console()
    with _file_progress("reading") as progress:
        data = catalogue.add(name, folder, channels=channels, skip_bad=skip_bad, progress=progress)
    for note in data.notes:
        console.print(f"note: {note}", markup=False)
    for bad in data.left_out:
        console.print(f"left out: {bad.path}: {bad.reason}", markup=False)
    console.print(f"{name}: {len(data.machine_types)} machine types, {data.clips.height} clips registered")


@data_app.command
def demo(*, name: str = "demo", clips_per_type: Whole | None = None, seed: Whole = 0) -> None:
    """Write the embedded data set, synthetic sounds of seven machine types, and register it.

    Parameters
    ----------
    name
        The name to give it.
    clips_per_type
        Training clips of a machine type.
    seed
        Seed of the generator.
    """
    write_and_register_demo(name, clips_per_type=clips_per_type, seed=seed)


@data_app.command(name="list")
def list_data() -> None:
    """List the registered data sets."""
    from rich.table import Table

    from asdbench.data import catalogue

    console = _console()
    names = catalogue.names()
    if not names:
        console.print(
            "no data set is registered; 'asdbench data demo' or 'asdbench data add NAME FOLDER' makes one"
        )
        return
    table = Table("data set", "types", "clips", "folder", box=None, header_style="bold", pad_edge=False)
    for name in names:
        data = catalogue.load(name)
        table.add_row(name, str(len(data.machine_types)), str(data.clips.height), str(data.root))
    console.print(table)


@data_app.command
def info(name: str) -> None:
    """Describe a data set: clips by type, split, domain and attribute, durations, formats, licence.

    Parameters
    ----------
    name
        A registered data set.
    """
    from rich.table import Table

    from asdbench.data import catalogue

    console = _console()
    data = catalogue.load(name)
    described = catalogue.describe(data)
    console.print(f"{name}: {data.clips.height} clips in {data.root}", highlight=False, markup=False)
    for title, frame in (
        ("clips", described.counts),
        ("durations", described.durations),
        ("formats", described.formats),
        ("attributes", described.attributes),
    ):
        table = Table(
            *frame.columns, title=title, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for row in frame.iter_rows():
            table.add_row(*("" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
        console.print()
        console.print(table)
    console.print()
    for bad in data.left_out:
        console.print(f"left out: {bad.path}: {bad.reason}", markup=False)
    for note in described.notes:
        console.print(f"note: {note}", markup=False)
    console.print(f"licence: {described.licence or 'the folder says nothing'}", markup=False)


def write_and_register_demo(name: str = "demo", *, clips_per_type: int | None = None, seed: int = 0) -> None:
    """Write the embedded data set under the data home and register it as ``name``; again is quick."""
    from asdbench.data import catalogue
    from asdbench.data.demo import write_demo

    clips = DEMO_CLIPS if clips_per_type is None else clips_per_type
    folder = catalogue.writable_home() / "recordings" / f"demo-{clips}-seed{seed}"
    with _file_progress("writing") as progress:
        write_demo(folder, clips_per_type=clips, seed=seed, progress=progress)
    with _file_progress("reading") as progress:
        data = catalogue.add(name, folder, progress=progress)
    _console().print(f"{name}: {len(data.machine_types)} machine types, {data.clips.height} clips registered")


class _file_progress:
    """A progress bar over files, for functions that call ``progress(done, total)``."""

    def __init__(self, verb: str) -> None:
        from rich.progress import Progress

        console = _console()
        self._bar = Progress(console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task(verb, total=None)

    def __enter__(self) -> "_file_progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; bad input prints one sentence and exits with code 2."""
    sys.exit(
        guarded(lambda: app(arguments, result_action="return_value", exit_on_error=False, print_error=False))
    )


def guarded(command: Callable[[], object]) -> int:
    """Call ``command`` and return its exit code, turning bad input and interruptions into messages."""
    from cyclopts import CycloptsError

    try:
        code = command()
    except CycloptsError as error:
        print(f"asdbench: {error}", file=sys.stderr)
        return 2
    except InputError as error:
        for bad in getattr(error, "bad", ()):
            print(f"{bad.path}: {bad.reason}", file=sys.stderr)
        print(f"asdbench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nasdbench: interrupted; what is finished is kept, the same command goes on from here",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 1
    return code if isinstance(code, int) else 0
