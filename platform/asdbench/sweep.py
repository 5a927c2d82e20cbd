"""What the scripts in ``sweeps/`` call: whole experiments as one statement."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from asdbench.cli import Flag, Numbers, Words, guarded, write_and_register_demo


def all_types() -> None:
    """Run every registered system on every machine type; the arguments are those of the command line."""
    app = App(name="all_types.py", help="Run all systems on every machine type and show the leaderboard.")

    @app.default
    def sweep(
        *,
        data: str | None = None,
        systems: Words = [],  # noqa: B006
        seeds: Numbers = [0],  # noqa: B006
        preset: str | None = None,
        local: Flag = False,
        workers: int | None = None,
        workers_per_type: int = 1,
        address: Annotated[str, Parameter(env_var="RAY_ADDRESS")] = "local",
    ) -> int:
        """Run all systems on every machine type and show the leaderboard.

        Parameters
        ----------
        data
            Name of a registered data set; the embedded one, written if need be, if not given.
        systems
            Names of systems; all if not given.
        seeds
            Seeds, one run each.
        preset
            Named settings of the systems: demo (quick, for the embedded data).
        local
            Run in this process, without Ray.
        workers
            Processes; as many as fit if not given.
        workers_per_type
            Processes that share the training of one machine type.
        address
            Ray cluster to run on; 'local' starts one on this machine.
        """
        from rich.console import Console

        from asdbench import registry
        from asdbench.bench import Execution, Request, run
        from asdbench.cluster.placement import Placement
        from asdbench.data import catalogue

        if data is None:
            data = "demo"
            if data not in catalogue.names():
                write_and_register_demo()
        request = Request(systems or registry.names(), data, seeds, preset=preset)
        execution = Execution(local, Placement(workers, workers_per_type), address)
        return run(request, execution, console=Console())

    sys.exit(guarded(lambda: app(result_action="return_value", exit_on_error=False, print_error=False)))
