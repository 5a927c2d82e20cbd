"""The command that shows recorded results in a browser: ui."""

from asdbench.cli.options import Integer, MlflowUri
from asdbench.cli.output import new_console
from asdbench.io.workspace import Workspace


def ui(*, host: str = "127.0.0.1", port: Integer | None = None, mlflow_uri: MlflowUri = None) -> None:
    """Show the leaderboard, the runs and the searches in MLflow, in a browser.

    It starts MLflow's server and ends it with Ctrl-C. The leaderboards are brought up to date first.

    Parameters
    ----------
    host
        Address to listen on. MLflow has no password: whoever reaches it can change what it shows.
    port
        Port to listen on (default: a free one).
    """
    from asdbench.driver.board_server import show_board
    from asdbench.tracking.address import Address

    workspace = Workspace.from_environment()
    workspace.check_home()
    address = Address.from_workspace(workspace, mlflow_uri)
    show_board(workspace, address, host=host, port=port, console=new_console())
