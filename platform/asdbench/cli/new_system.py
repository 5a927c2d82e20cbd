"""The command that writes a new system."""

from importlib.util import find_spec
from pathlib import Path

from asdbench.cli.options import Flag
from asdbench.cli.output import print_line


def new_system(name: str, *, package: Flag = False, output: Path | None = None) -> None:
    """Write a small working system and its test, to be changed into your own.

    It trains an autoencoder and fits a nearest-neighbor back end; comments mark what to change. Existing
    files are never overwritten.

    Parameters
    ----------
    name
        Name of the new system: lower-case words joined by hyphens, such as my-detector.
    package
        Write a package with its own pyproject.toml rather than a file of a checkout of asdbench.
    output
        Checkout to write to (default: the one around the current folder, or the one that asdbench is imported
        from); with --package, the folder for the package's folder (default: the current folder).
    """
    from asdbench.driver.scaffold import write_system

    new = write_system(name, package=package, output=output)
    print_line(f"{new.folder / new.system}: the system {name}")
    print_line(f"{new.folder / new.test}: its test")
    if package:
        print_line(f"install it:  pip install -e '{new.folder}[dev]'")
    elif not new.is_read:
        print_line(f"note: this asdbench is not the one in {new.folder}; use that one to run {name}")
    pytest = "" if package or find_spec("pytest") else "pip install pytest && "
    print_line(f"test it:     {pytest}python -m pytest {new.folder / new.test}")
    print_line(f"run it:      asdbench run {name} --data demo --local      (once: asdbench data demo)")
