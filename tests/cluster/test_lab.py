"""A cluster as its users have it: set up, swept and taken down from a laptop while machines are lost.

The hosts are namespaces of this machine (``lab/hosts``). What is typed on the laptop is what users are told
to type; ``ray_cluster.yaml`` is used as it stands, with its five fields filled in.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from asdbench.testing.tiny import write_tiny

ROOT = Path(__file__).parents[2]
HOSTS = Path(__file__).with_name("lab") / "hosts"
HEAD, WORKERS = "10.77.0.1", ("10.77.0.2", "10.77.0.3", "10.77.0.4")
MACHINES = (HEAD, *WORKERS)
LATE = "host4"  # joins only when it is started
SOON = MACHINES[:-1]
MACHINE_TYPES = ("fan", "valve")
# Ray notices sooner than by default that a machine is gone or has come, and starts no unneeded worker.
SETTINGS = (
    "RAY_health_check_period_ms=1000",
    "RAY_enable_worker_prestart=0",
    "RAY_prestart_worker_first_driver=0",
    "AUTOSCALER_UPDATE_INTERVAL_S=1",
    "AUTOSCALER_HEARTBEAT_TIMEOUT_S=10",
)

WAIT_FOR_NODES = """
import sys, time, ray
ray.init(logging_level="ERROR", log_to_driver=False)
while {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]} != set(sys.argv[1:]):
    time.sleep(0.2)
"""

cluster = pytest.mark.cluster
patient = pytest.mark.timeout(800)


def filled_in(**fields: str) -> str:
    """Return ``ray_cluster.yaml`` with its fields filled in, as a user would with an editor."""
    text = (ROOT / "ray_cluster.yaml").read_text()
    wanted = {
        "head_ip: 192.168.1.10 ": f"head_ip: {HEAD} ",
        "worker_ips: [192.168.1.11, 192.168.1.12]": f"worker_ips: [{', '.join(WORKERS)}]",
        "ssh_user: ubuntu": "ssh_user: root",
        "/shared/asdbench": fields["shared"],
        "cluster_name: asdbench": f"cluster_name: {fields['name']}",  # Ray keeps ssh connections by this name
    }
    for before, after in wanted.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


# The file itself


def test_the_cluster_file_is_what_ray_takes() -> None:
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    validate_config(prepare_config(config))
    for place, source in config["file_mounts"].items():
        assert source.startswith("~") or (ROOT / source).exists(), place


def test_what_listens_is_the_cluster_and_the_dashboard_on_loopback() -> None:
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    start = config["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in start
    assert re.findall(r"--\S*port\S*", start) == ["--port=6379"]


def test_every_machine_asks_for_the_token_and_a_worker_with_an_empty_disk_gets_all() -> None:
    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())
    home, settings = config["initialization_commands"]
    assert "RAY_AUTH_MODE=token" in settings
    assert "~/.ray/auth_token" in config["file_mounts"]
    start = config["worker_start_ray_commands"]
    assert start[:2] == [home, settings]
    assert start[3] in config["setup_commands"]


# The lab


def missing() -> str | None:
    """Return what this machine lacks for a lab, ``None`` if nothing."""
    if os.geteuid():
        return "the lab needs root"
    for program in ("ip", "sshd", "ssh", "rsync", "unshare", "nsenter", "make"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            return f"the lab needs {program!r}"
    namespaces = ["unshare", "--fork", "--net", "--pid", "--mount", "--uts", "--mount-proc", "mount"]
    tried = subprocess.run([*namespaces, "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True, text=True)
    if tried.returncode:
        return f"the lab needs namespaces, and this machine gives none ({tried.stderr.strip()})"
    return None


class Lab:
    """Four hosts, one of them still without power, and a laptop, with a folder that all see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"  # of each host, which sees its own there
        self.shared = folder / "shared"
        self.file = folder / "ray_cluster.yaml"
        self.environment = {
            **os.environ,
            **{"LAB": str(folder), "LAB_SKEL": str(folder / "skel"), "LAB_SETTINGS": " ".join(SETTINGS)},
        }

    def hosts(self, *arguments: str) -> None:
        subprocess.run([HOSTS, *arguments], env=self.environment, cwd=ROOT, check=True, timeout=60)

    def begin(self, host: str, *command: str, folder: Path = ROOT) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [HOSTS, "run", host, *command],
            env=self.environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, host: str, *command: str, fails: bool = False, folder: Path = ROOT) -> str:
        process = self.begin(host, *command, folder=folder)
        try:
            output, _ = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{command} took too long: {_said_so_far(process)}") from None
        assert bool(process.returncode) == fails, output
        return output

    def ray(self, command: str, *arguments: str, fails: bool = False) -> str:
        """Type a ray command on the laptop, in the project's folder and with its environment."""
        return self.run("laptop", *self.ray_command(command, *arguments), fails=fails)

    def ray_command(self, command: str, *arguments: str) -> list[str]:
        return [f"{sysconfig.get_path('scripts')}/ray", command, *arguments]

    def up(self, machines: Sequence[str] = MACHINES, folder: Path = ROOT) -> None:
        """Type ``ray up`` in a folder of the project, which is copied, and wait for machines."""
        self.run("laptop", *self.ray_command("up", "-y", str(self.file)), folder=folder)
        self.wait_for(machines)

    def wait_for(self, machines: Sequence[str] = MACHINES) -> None:
        """Wait until the nodes that are alive, by the head, are those at these addresses."""
        command = '. ~/.asdbench.sh; exec timeout 400 python -c "$0" "$@"'
        self.run("host1", "bash", "-c", command, WAIT_FOR_NODES, *machines)

    def finished(self) -> dict[str, tuple[str, int]]:
        """Return content and time of the records of the trainings that are over."""
        return finished(self.shared)

    def status(self) -> dict[str, Any]:
        """Type ``asdbench status`` on the head; return the run under way."""
        command = ". ~/.asdbench.sh; asdbench status --format json"
        (run,) = json.loads(self.run("host1", "bash", "-c", command))
        return dict(run)

    def kill_driver(self) -> None:
        """Kill the process of the sweep on the head without any warning."""
        listed = self.run("host1", "ps", "-eo", "pid,args").splitlines()
        (pid,) = [line.split()[0] for line in listed if re.match(r" *\d+ python \S*all_types.py ", line)]
        self.run("host1", "kill", "-KILL", pid)


def _said_so_far(process: "subprocess.Popen[str]") -> str:
    """Return what a killed command has printed; what it started may still hold its output open."""
    try:
        return process.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired as error:
        return str(error.output)


def finished(home: Path) -> dict[str, tuple[str, int]]:
    files = (home / "jobs" / "trainings").glob("*/training.json")
    records = {file.parent.name: (file.read_text(), file.stat().st_mtime_ns) for file in files}
    return {key: record for key, record in records.items() if json.loads(record[0])["data"] == "swept"}


def until(condition: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds:g} s"
        time.sleep(1.0)  # a look costs seconds of a CPU


def furnish(skeleton: Path, home: Path) -> None:
    """Put the environment into what new homes are made of: without a network nothing can be installed.

    The project that it is made for is that of ``ray_cluster.yaml``, not the one that these tests run in.
    """
    project, environment = home / "asdbench", skeleton / "asdbench" / ".venv"
    venv.EnvBuilder(symlinks=True).create(environment)
    paths = [project / "platform", project, sysconfig.get_path("purelib")]
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "lab.pth").write_text("".join(f"{path}\n" for path in paths))
    for name in ("ray", "asdbench"):
        _, _, program = (Path(sysconfig.get_path("scripts")) / name).read_text().partition("\n")
        (environment / "bin" / name).write_text(f"#!/usr/bin/env python\n{program}")
        (environment / "bin" / name).chmod(0o755)
    (environment / ".installed").touch()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A cluster that is up, with the tiny data set registered for jobs, and again for the sweep."""
    lacking = missing()
    if lacking is not None:
        pytest.skip(lacking)
    lab = Lab(Path(tempfile.mkdtemp(prefix="lab")))  # not in pytest's: sockets of Ray need a short path
    try:
        lab.shared.mkdir()
        furnish(lab.folder / "skel", lab.home)
        write_tiny(lab.folder / "recordings", machine_types=MACHINE_TYPES)
        lab.file.write_text(filled_in(shared=str(lab.shared), name=lab.folder.name))
        lab.hosts("up", str(1 + len(WORKERS)))
        lab.hosts("kill", LATE)
        token = " ".join(lab.ray_command("get-auth-token", "--generate"))
        lab.run("laptop", "bash", "-c", f"(umask 077; {token} >/dev/null)")
        lab.up(SOON)
        add = [f"asdbench data add {name} {lab.folder / 'recordings'}" for name in ("jobs", "swept")]
        lab.ray("exec", str(lab.file), " && ".join(add))
        yield lab
    finally:
        lab.hosts("down")


def python(home: Path, *arguments: str, folder: Path) -> str:
    environment = {**os.environ, "ASDBENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{folder / 'platform'}:{folder}"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def leaderboard(home: Path, project: Path) -> list[dict[str, Any]]:
    """Return the rows of each machine type; ``project`` is the folder with the systems."""
    asked = ("leaderboard", "--data", "swept", "--by", "type", "--format", "json")
    rows: list[dict[str, Any]] = json.loads(python(home, "-m", "asdbench", *asked, folder=project))
    return rows


def assert_equal(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Compare leaderboards, and name the figures that differ."""
    assert len(ours) == len(theirs) > 0
    for row, other in zip(ours, theirs, strict=True):
        differing = {name: (row[name], other.get(name)) for name in row if row[name] != other.get(name)}
        assert not differing, row["machine_type"]


@cluster
@patient
def test_who_has_no_token_is_refused_and_the_dashboard_is_seen_by_nobody_outside(lab: Lab) -> None:
    asked = lab.ray_command("status", "--address", f"{HEAD}:6379")
    for environment in ("RAY_AUTH_MODE=disabled", f"RAY_AUTH_TOKEN={64 * '0'}"):
        refused = lab.run("laptop", "env", "RAY_AUTH_MODE=token", environment, *asked, fails=True)
        assert "InvalidAuthToken" in refused
    assert "Active:" in lab.run("laptop", "env", "RAY_AUTH_MODE=token", *asked)
    for host in ("host1", "host2"):
        assert lab.run(host, "stat", "-c", "%a", f"{lab.home}/.ray/auth_token") == "600\n"
    assert http_status(lab, "host1", "127.0.0.1:8265/api/jobs/") == 401
    assert http_status(lab, "laptop", f"{HEAD}:8265/api/jobs/") is None
    for address in SOON:  # the agent of each node starts jobs
        assert http_status(lab, "laptop", f"{address}:52365/api/job_agent/jobs/") == 401


def http_status(lab: Lab, host: str, url: str) -> int | None:
    """Return what a POST without a token is answered with, ``None`` if nobody listens."""
    program = (
        "import sys, urllib.error, urllib.request\n"
        "try: print(urllib.request.urlopen(sys.argv[1], b'{}', 10).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
        "except urllib.error.URLError as error: print(error.reason)"
    )
    said = lab.run(host, sys.executable, "-c", program, f"http://{url}").strip()
    assert said.isdecimal() or "refused" in said, said
    return int(said) if said.isdecimal() else None


@pytest.fixture
def project(lab: Lab) -> Path:
    """The project's folder on the laptop, for systems that are written after `ray up`."""
    folder = lab.folder / "project"
    for name in ("platform", "sweeps", "systems"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, dirs_exist_ok=True)
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder)  # with its time: a newer one would be installed again
    shutil.copy(lab.file, folder)
    return folder


def write_system(project: Path, greeting: str, wait: str) -> None:
    """Write the system of the README, which also prints something while it is fitted, and waits."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    fit = "def fit_backend(self, batches: Iterable[ClipBatch]) -> None:\n"
    assert code.count(fit) == 1
    code = code.replace(fit, f'{fit}        print("{greeting}")\n{wait}')
    imports = "import pathlib\nimport socket\nimport time\n\nimport torch\n"
    (project / "systems" / "my_system.py").write_text(code.replace("import torch\n", imports, 1))


# until it is fitted on two hosts at a time
MEET = """
        pathlib.Path("{place}").mkdir(exist_ok=True)
        pathlib.Path("{place}", socket.gethostname()).touch()
        while len(list(pathlib.Path("{place}").iterdir())) < 2:
            time.sleep(0.1)
"""
# in all trials but the first, while a file exists; tells on which hosts, and since when
HOLD = """
        began = time.time()
        while self.config.n_mels != 64 and pathlib.Path("{place}").exists():
            pathlib.Path("{place}-" + socket.gethostname()).write_text(str(began))
            time.sleep(0.1)
"""
TUNED_SWEEP = (
    *(
        "--data",
        "swept",
        "--systems",
        "baseline-mse",
        "my-system",
        "ensemble",
        "--trials",
        "3",
        "--fresh-seeds",
        "0",
    ),
    *("--set", "members=baseline-mse,my-system", "epochs=4", "batch_size=64", "hidden=16"),
)


def searched(home: Path) -> list[Any]:
    """Return the trials of each search, without times."""
    records = [json.loads(file.read_text()) for file in sorted((home / "jobs" / "searches").glob("*.json"))]
    told = ("number", "parameters", "state", "rungs")  # the record of a fusion's weights has no trials
    return [[[trial[name] for name in told] for trial in record.get("trials", [])] for record in records]


@contextmanager
def full_disk(lab: Lab, host: str) -> Iterator[None]:
    """Leave a host no room for copies of features."""
    cache = str(lab.home / "tmp" / "asdbench-root")
    lab.run(host, "mkdir", "-p", "-m", "700", cache)
    lab.run(host, "mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", cache)
    yield
    lab.run(host, "umount", cache)


def run_undisturbed(lab: Lab, project: Path, home: Path) -> None:
    """Run the tuned sweep on the laptop alone."""
    own = ["env", f"ASDBENCH_HOME={home}", f"PYTHONPATH={project / 'platform'}:{project}", sys.executable]
    add = ("-m", "asdbench", "data", "add", "swept", str(lab.folder / "recordings"))
    lab.run("laptop", *own, *add, folder=project)
    lab.run("laptop", *own, "sweeps/all_types.py", *TUNED_SWEEP, folder=project)


MY_SWEEP = ("--data", "jobs", "--systems", "my-system", "--trials", "0")


def greetings(output: str) -> dict[str, str]:
    """Return what workers printed for each machine type, and see that the head was not the only one."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", output)  # `ray submit` shows a terminal's progress bars
    lines = re.findall(r"^\[(host\d+) (\w+) my-system seed 0\] (.*)$", text, flags=re.MULTILINE)
    assert {host for host, _, _ in lines} - {"host1"}, output
    return {machine_type: printed for _, machine_type, printed in lines}


@cluster
@patient
def test_a_system_written_after_ray_up_runs_in_a_job_that_survives_its_terminal(
    lab: Lab, project: Path
) -> None:
    tunnel = lab.begin("laptop", *lab.ray_command("dashboard", str(lab.file)))
    job = ["env", "RAY_AUTH_MODE=token", *lab.ray_command("job")]
    address = ("--address", "http://localhost:8265")
    submit = [*job, "submit", *address, "--working-dir", ".", "--submission-id"]
    statement = ("--", "python", "sweeps/all_types.py", *MY_SWEEP)
    try:
        until(lambda: http_status(lab, "laptop", "localhost:8265/api/jobs/") == 401, 120)
        write_system(project, "the first version", MEET.format(place=lab.folder / "first"))
        output = lab.run("laptop", *submit, "first", *statement, folder=project)
        assert greetings(output) == dict.fromkeys(MACHINE_TYPES, "the first version"), output
        write_system(project, "the second version", MEET.format(place=lab.folder / "second"))
        lab.run("laptop", *submit, "second", "--no-wait", *statement, folder=project)
        output = lab.run("laptop", *job, "logs", "--follow", *address, "second")
        assert greetings(output) == dict.fromkeys(MACHINE_TYPES, "the second version"), output
    finally:
        tunnel.kill()
        tunnel.wait()


@cluster
@patient
def test_a_sweep_on_failing_machines_ends_as_if_nothing_had_happened(
    lab: Lab, project: Path, tmp_path: Path
) -> None:
    """One disk is full, a host dies, one joins late, the driver is killed, then the head dies.

    A system is new, and runs since the project was copied again.
    """
    hold = lab.folder / "hold"
    hold.touch()
    write_system(project, "the third version", HOLD.format(place=hold))
    lab.run("laptop", *lab.ray_command("rsync-up", str(lab.file)), folder=project)
    command = lab.ray_command("submit", str(lab.file), "sweeps/all_types.py", "--", *TUNED_SWEEP)
    with full_disk(lab, "host2"):
        output = disturb(lab, lab.begin("laptop", *command), hold)
    assert greetings(output) == dict.fromkeys(MACHINE_TYPES, "the third version"), output
    words = " ".join(output.split())
    assert "host2 gets no more tasks in this run, since three in a row failed there" in words
    assert "it failed on host3" in words
    done = lab.finished()
    lab.hosts("start", "host3")
    kill_head(lab, lab.begin("laptop", *command), hold)
    lab.hosts("start", "host1")
    lab.ray("down", "-y", str(lab.file))
    lab.up(folder=project)
    hold.unlink()
    lab.run("laptop", *command)
    after = lab.finished()
    assert 0 < len(done) < len(after)
    assert {key: after[key] for key in done} == done
    run_undisturbed(lab, project, tmp_path)
    assert after.keys() == finished(tmp_path).keys()
    assert searched(lab.shared) == searched(tmp_path)
    ours = leaderboard(lab.shared, project)
    assert len(ours) == 2 * 3 * len(MACHINE_TYPES)  # of three systems, tuned and not
    assert_equal(ours, leaderboard(tmp_path, project))


def is_held(hold: Path, host: str, since: float = 0.0) -> bool:
    """Return whether a training waits on a host that began after a point in time."""
    note = Path(f"{hold}-{host}")
    return note.exists() and float(note.read_text() or 0) > since


def hosts_out(status: dict[str, Any]) -> dict[str, str]:
    """Return the hosts that get no tasks, each with the reason."""
    return {node["host"]: node["reason"] for node in status["nodes"] if node["quarantined_unix_s"]}


def wait_in(sweep: "subprocess.Popen[str]", condition: Callable[[], Any]) -> None:
    """Wait for something that has to happen while a sweep runs."""
    until(lambda: sweep.poll() is not None or condition(), 900)
    assert sweep.poll() is None, sweep.communicate()[0]


def disturb(lab: Lab, sweep: "subprocess.Popen[str]", hold: Path) -> str:
    """Kill host3 while trials wait on it, start the late host, kill the driver; return what was printed."""
    wait_in(sweep, lambda: is_held(hold, "host3"))
    lab.hosts("kill", "host3")
    lab.hosts("start", LATE)
    wait_in(sweep, lambda: is_held(hold, LATE))
    wait_in(sweep, lambda: len(hosts_out(lab.status())) == 2)
    status = lab.status()
    out = hosts_out(status)
    assert out.keys() == {"host2", "host3"}
    assert "No space left on device" in out["host2"]
    assert "left the cluster" in out["host3"]
    assert LATE in {task["host"] for task in status["running"]}
    lab.kill_driver()
    return ended(sweep)


def kill_head(lab: Lab, sweep: "subprocess.Popen[str]", hold: Path) -> None:
    """Kill the head while trials wait."""
    began = time.time()
    lab.wait_for(MACHINES)  # they have joined, and nobody typed anything
    wait_in(sweep, lambda: any(is_held(hold, f"host{n}", began) for n in range(1, 1 + len(MACHINES))))
    lab.hosts("kill", "host1")
    ended(sweep)


def ended(sweep: "subprocess.Popen[str]") -> str:
    """Return what was printed by a sweep that was killed."""
    output, _ = sweep.communicate(timeout=240)
    assert sweep.returncode != 0, output
    return output


@cluster
@patient
def test_ray_down_ends_the_cluster(lab: Lab) -> None:
    lab.ray("down", "-y", str(lab.file))
    assert "gcs_server" not in lab.run("host1", "ps", "-eo", "args")
