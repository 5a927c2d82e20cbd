"""What the scripts in ``sweeps/`` call: whole experiments as one statement."""

import sys

from cyclopts import App

from asdbench.cli.data import write_and_register_demo
from asdbench.cli.exit import guarded
from asdbench.cli.main import RunOptions, SearchOptions, run_systems, usable_systems
from asdbench.cli.options import Whole, Words
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace

_TRIALS = 20
_DEMO_TRIALS = 2


def all_types(arguments: list[str] | None = None) -> None:
    """Run, tune and fuse every registered system; the options are those of ``asdbench run`` and ``tune``."""
    app = App(
        name="all_types.py",
        help="All systems on every machine type: run, tuned, fused, and on the leaderboard.",
        suppress_keyboard_interrupt=False,  # guarded() says how to go on
    )

    @app.default
    def sweep(
        *,
        data: Words = (),
        systems: Words = (),
        trials: Whole | None = None,
        search: SearchOptions | None = None,
        options: RunOptions = RunOptions(),  # noqa: B008 - it is frozen
    ) -> int:
        """All systems on every machine type: run, tuned, fused, and on the leaderboard.

        Parameters
        ----------
        data
            Names of registered data sets; all, or the embedded one where there are none or for --preset demo,
            if not given.
        systems
            Names of systems; all that can be used if not given.
        trials
            Trials of each system, the first of them untuned; 0 leaves them untuned. If not given 20; with
            --local 0; with --preset demo 2, of settings that no model runs for.
        """
        demo = options.preset == "demo"
        if trials is None:
            trials = 0 if options.local else _DEMO_TRIALS if demo else _TRIALS
        if search is None:
            search = SearchOptions(affects="fusion") if demo else SearchOptions()
        wanted = search.search(trials)
        return max(
            run_systems(systems or usable_systems(), name, options, search=wanted)
            for name in data or _data_sets(embedded=demo)
        )

    sys.exit(
        guarded(lambda: app(arguments, result_action="return_value", exit_on_error=False, print_error=False))
    )


def _data_sets(*, embedded: bool) -> list[str]:
    """Return the names of all data sets, or of the embedded one, which is written if there is none."""
    from asdbench.data.sets import catalog

    names = catalog.names(Workspace.from_environment())
    return [_embedded()] if embedded or not names else list(names)


def _embedded() -> str:
    """Return the name of the embedded data set, which is written and registered if no ``demo`` is there."""
    from asdbench.data.sets import catalog

    workspace = Workspace.from_environment()
    if "demo" not in catalog.names(workspace):
        write_and_register_demo()
    root = catalog.load(workspace, "demo").root
    if not root.is_relative_to((workspace.home / "recordings").resolve()):
        raise InputError(
            f"the data set 'demo' is the folder {str(root)!r} and not the embedded one; name it with --data "
            f"demo, or get the embedded one back with 'asdbench data demo'"
        )
    return "demo"
