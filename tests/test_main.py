import subprocess
import sys


def test_the_package_runs_as_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "asdbench", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0")
