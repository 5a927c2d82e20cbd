"""A process that judges: labels are joined with scores where no system has been imported.

A system's module is imported in the driver, and may have replaced a function of the metrics there. The
results that are stored come from a process of their own, which is started when the first is judged and ends
with the driver, since its standard input ends then.
"""

import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import msgspec

import asdbench
from asdbench.engine.judge import JudgeAnswer, JudgeRequest, NoLabels
from asdbench.engine.result_record import SectionMetrics
from asdbench.errors import InfrastructureError, InputError

_CODE = "from asdbench.engine.judge import serve; serve()"


class JudgeProcess:
    """A judge in another process, as `asdbench.engine.evaluation.evaluate` takes one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, request: JudgeRequest) -> dict[str, SectionMetrics]:
        """Return the metrics by section.

        Raises
        ------
        NoLabels, InputError
            As `asdbench.engine.judge.judge` does.
        InfrastructureError
            The process has ended.
        """
        with self._lock:
            answer = self._answer(request)
        if answer.has_no_labels:
            raise NoLabels(answer.message)
        if answer.message:
            raise InputError(answer.message)
        return answer.sections

    def _answer(self, request: JudgeRequest) -> JudgeAnswer:
        if self._process is None or self._process.poll() is not None:
            self._process = _started()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(msgspec.json.encode(request) + b"\n")
            stdin.flush()
            return msgspec.json.decode(stdout.readline(), type=JudgeAnswer)
        except (OSError, msgspec.DecodeError) as error:
            raise InfrastructureError(
                f"the process that judges results has ended ({error}); run the same command again"
            ) from error


@cache
def judge_process() -> JudgeProcess:
    """Return the judge of this process."""
    return JudgeProcess()


def _started() -> subprocess.Popen[bytes]:
    """Start the process: with the platform alone on its path, and without Ctrl-C, the driver's."""
    paths = [str(Path(asdbench.__file__).parents[1])]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _CODE],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
