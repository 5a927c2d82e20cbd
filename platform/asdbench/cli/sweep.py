"""The scripts in ``sweeps/``: whole experiments as one statement."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from asdbench.cli.data import demo as add_demo
from asdbench.cli.exit import EXIT_CODES, exit_code, guarded
from asdbench.cli.options import (
    ClusterOptions,
    Flag,
    Integer,
    Integers,
    MlflowUri,
    RunOptions,
    SearchOptions,
    Strings,
)
from asdbench.cli.output import message_console, print_line, print_report
from asdbench.cli.run import ANY_CLUSTER, DEFAULT_RUN, run, tune, usable_systems
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.presets import split_presets

if TYPE_CHECKING:
    from asdbench.report.reproduction import Counterpart

_TRIALS = 20
_DEMO_TRIALS = 2


def all_types(arguments: list[str] | None = None) -> None:
    """Run, tune and fuse all systems; the options are those of ``asdbench run`` and ``asdbench tune``."""
    app = App(
        name="all_types.py",
        help="Run, tune and fuse all systems on all machine types, and show the leaderboard.",
        suppress_keyboard_interrupt=False,  # guarded() prints how to resume
        help_epilogue=EXIT_CODES,
    )

    @app.default
    def sweep(
        *,
        data: Strings = (),
        systems: Strings = (),
        trials: Integer | None = None,
        local: Flag = False,
        search: SearchOptions | None = None,
        options: RunOptions = DEFAULT_RUN,
        cluster: ClusterOptions = ANY_CLUSTER,
    ) -> int:
        """Run, tune and fuse all systems on all machine types, and show the leaderboard.

        Parameters
        ----------
        data
            Names of registered data sets (default: all, or the embedded data set if there are none or with
            --preset demo).
        systems
            Names of systems (default: all that can be used).
        trials
            Number of trials per system; the first is the untuned system, and 0 means no search (default: 20;
            0 with --local; 2 with --preset demo, of settings whose change requires only refusion, and without
            fresh seeds).
        local
            Run in this process, without Ray and without a search.
        """
        demo = "demo" in split_presets(options.preset)
        if trials is None:
            trials = 0 if local else _DEMO_TRIALS if demo else _TRIALS
        if search is None:
            search = SearchOptions(max_cost="fusion", fresh_seeds=0) if demo else SearchOptions()
        if local and trials > 0:
            raise InputError("a search needs Ray; drop --local, or skip the search with --trials 0")
        codes = []
        for name in data or _data_sets(embedded=demo):
            names = systems or usable_systems()
            codes.append(
                tune(*names, data=name, trials=trials, search=search, options=options, cluster=cluster)
                if trials
                else run(*names, data=name, local=local, options=options, cluster=cluster)
            )
        return max(codes)

    sys.exit(guarded(app, arguments))


def reproduction(
    counterparts: "Sequence[Counterpart]",
    *,
    name: str,
    title: str,
    challenge: str,
    arguments: list[str] | None = None,
) -> None:
    """Reproduce a published table; the options are like those of ``asdbench run``.

    Parameters
    ----------
    counterparts : the columns of the table
    name : file name of the script
    title, challenge : name of the table, and the challenge whose published results it has
    arguments : of the command line
    """
    words = f"Reproduce {title}: run its systems, and show ours next to the printed values."
    app = App(name=name, help=words, suppress_keyboard_interrupt=False, help_epilogue=EXIT_CODES)

    @app.default
    def sweep(
        *,
        data: str = challenge,
        seeds: Integers = (0, 1, 2, 3, 4),
        machines: Strings = (),
        set: Strings = (),
        preset: str = "report",
        output: Path | None = None,
        dry_run: Flag = False,
        local: Flag = False,
        json: Flag = False,
        mlflow_uri: MlflowUri = None,
        cluster: ClusterOptions = ANY_CLUSTER,
    ) -> int:
        """Run the systems of a published table, and show ours next to the printed values.

        Parameters
        ----------
        data
            Name of a registered data set.
        seeds
            Random seeds; each system runs once per seed.
        machines
            Machine types (default: all with development clips).
        set
            Settings as key=value, over those of the preset; each applies to the systems that have it.
        preset
            Named settings of the systems.
        output
            Markdown file to write.
        dry_run
            Print what it will cost on this machine or cluster, and run nothing.
        local
            Run in this process, without Ray.
        json
            Print the values as JSON on standard output, and everything else on standard error.
        """
        from asdbench.api import runs
        from asdbench.config import parse_assignments

        table = runs.reproduce(
            counterparts,
            title=title,
            challenge=challenge,
            data=data,
            seeds=seeds,
            machines=machines,
            settings=parse_assignments(set),
            preset=preset,
            output=output,
            dry_run=dry_run,
            local=local,
            cluster=cluster.to_cluster(),
            storage=cluster.storage,
            mlflow_uri=mlflow_uri,
            progress=message_console(stderr=json),
        )
        if table is None:
            return 0
        print_report(table, "json" if json else "table", notes=table.notes)
        if output is not None:
            print_line(f"{output}: the tables as Markdown")
        return exit_code(table.failures)

    sys.exit(guarded(app, arguments))


def _data_sets(*, embedded: bool) -> list[str]:
    """Return the names of all data sets, or of the embedded one if there are none."""
    from asdbench.data.sets import catalog

    names = catalog.names(Workspace.from_environment())
    return [_embedded()] if embedded or not names else list(names)


def _embedded() -> str:
    """Return the name of the embedded data set; write and register it unless ``demo`` exists."""
    from asdbench.data.sets import catalog

    workspace = Workspace.from_environment()
    if "demo" not in catalog.names(workspace):
        add_demo()
    root = catalog.load(workspace, "demo").root
    if not root.is_relative_to((workspace.home / "recordings").resolve()):
        raise InputError(
            f"the data set 'demo' is the folder {str(root)!r} and not the embedded one; use it with "
            f"'--data demo', or restore the embedded one with 'asdbench data demo'"
        )
    return "demo"
