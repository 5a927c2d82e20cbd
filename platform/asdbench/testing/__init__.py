"""The conformance suite that every system inherits, and a tiny data set for it. Requires pytest.

A package tests its own system in four lines::

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
