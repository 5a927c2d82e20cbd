"""Tests that every system inherits, and data small enough to run them on. Needs pytest.

A package with a system of its own tests it in four lines::

    from asdbench.testing import SystemConformance

    class TestMySystem(SystemConformance):
        system = "my-system"
        settings = {"epochs": 2, "hidden": 16}
"""

import pytest

pytest.register_assert_rewrite("asdbench.testing.conformance")

from asdbench.testing.conformance import EnsembleConformance, SystemConformance  # noqa: E402
from asdbench.testing.tiny import write_tiny  # noqa: E402

__all__ = ["EnsembleConformance", "SystemConformance", "write_tiny"]
