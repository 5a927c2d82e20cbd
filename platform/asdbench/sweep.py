"""What the scripts in ``sweeps/`` call: whole experiments as one statement."""

import sys

from cyclopts import App

from asdbench.cli import RunOptions, Words, guarded, run_systems, usable_systems, write_and_register_demo
from asdbench.errors import InputError


def all_types(arguments: list[str] | None = None) -> None:
    """Run every registered system on every machine type; the options are those of ``asdbench run``."""
    app = App(
        name="all_types.py",
        help="Run all systems on every machine type and show the leaderboard.",
        suppress_keyboard_interrupt=False,  # guarded() says how to go on
    )

    @app.default
    def sweep(
        *,
        data: str | None = None,
        systems: Words = (),
        options: RunOptions = RunOptions(),  # noqa: B008 - it is frozen
    ) -> int:
        """Run all systems on every machine type and show the leaderboard.

        Parameters
        ----------
        data
            Name of a registered data set; the embedded one, written if need be, if not given.
        systems
            Names of systems; all that can be used if not given.
        """
        return run_systems(systems or usable_systems(), data or _embedded(), options)

    sys.exit(
        guarded(lambda: app(arguments, result_action="return_value", exit_on_error=False, print_error=False))
    )


def _embedded() -> str:
    """Return the name of the embedded data set, which is written and registered if no ``demo`` is there."""
    from asdbench.data import catalogue

    if "demo" not in catalogue.names():
        write_and_register_demo()
    root = catalogue.load("demo").root
    if not root.is_relative_to((catalogue.home() / "recordings").resolve()):
        raise InputError(
            f"the data set 'demo' is the folder {str(root)!r} and not the embedded one; name it with --data "
            f"demo, or get the embedded one back with 'asdbench data demo'"
        )
    return "demo"
