"""What travels between processes is plain, and importing it is cheap."""

import pickle
import subprocess
import sys

from asdbench.cluster.messages import FeatureRequest, Outcome, TaskRequest
from asdbench.engine.events import Failure


def test_messages_travel() -> None:
    feature = FeatureRequest("f", "fan features", b"spec", on_driver=True)
    request = TaskRequest("k", "t", "fan mse seed 0", ("mse",), (1.0, 2.0), b"jobs", (feature,))
    outcome = Outcome("user", "n1", "host1", (Failure("fan mse seed 0", "no", bad_input=True),), "no", b"x")
    for message in (feature, request, outcome):
        assert pickle.loads(pickle.dumps(message)) == message


def test_the_scheduler_needs_nothing_heavy() -> None:
    program = (
        "import sys, asdbench.cluster.scheduler\n"
        "print([name for name in ('torch', 'polars', 'pyarrow', 'mlflow', 'optuna', 'ray.tune', 'ray.train') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
