"""Every system of ``systems/`` passes the conformance suite."""

from pathlib import Path

import systems
from asdbench.testing import SystemConformance


class TestBaselineMse(SystemConformance):
    system = "baseline-mse"
    settings = {"epochs": 2, "hidden": 16}  # noqa: RUF012 - ClassVar in SystemConformance


class TestBaselineMaha(SystemConformance):
    system = "baseline-maha"
    settings = {"epochs": 2, "hidden": 16}  # noqa: RUF012 - ClassVar in SystemConformance


def test_every_system_is_here() -> None:
    files = Path(systems.__file__).parent.glob("*.py")
    expected = {file.stem.replace("_", "-") for file in files if not file.name.startswith("_")}
    suites = [suite for suite in SystemConformance.__subclasses__() if suite.__module__ == __name__]
    assert {suite.system for suite in suites} == expected
