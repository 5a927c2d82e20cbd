"""The cluster files: valid against the available schemas, closed by default, consistent with one another."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
import typing
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
CLUSTERS = ROOT / "clusters"


def load(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def start_options(command: str) -> dict[str, str]:
    """Return the options of ``ray start`` in a command; the installed Ray must accept all of them."""
    import click

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from pydantic, about parts of Ray that are not used
        from ray.scripts.scripts import start

    arguments = command.partition("ray start ")[2].split()
    assert arguments
    known = {name for option in start.params if isinstance(option, click.Option) for name in option.opts}
    options = {name: value for name, _, value in (argument.partition("=") for argument in arguments)}
    assert options.keys() <= known
    return options


# AWS


@pytest.fixture
def aws() -> Any:
    return load(CLUSTERS / "aws.yaml")


def test_ray_accepts_the_aws_cluster(aws: Any) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    resolved = prepare_config(aws)
    validate_config(resolved)
    assert resolved["idle_timeout_minutes"] == 5
    head, worker = (resolved["available_node_types"][name] for name in ("head", "worker"))
    assert head["resources"] == {"CPU": 0}
    assert (worker["min_workers"], worker["max_workers"]) == (0, resolved["max_workers"])


def test_aws_accepts_the_machines_and_allows_only_ssh_from_outside(
    aws: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mock_aws = pytest.importorskip("moto").mock_aws
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes the key of the machines to ~/.ssh
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    region = aws["provider"]["region"]
    with mock_aws():
        iam = boto3.client("iam", region)
        name = "ray-autoscaler-v1"  # Ray would create it if it were missing, which takes 15 s
        iam.create_instance_profile(InstanceProfileName=name)
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
        ready = bootstrap_aws(prepare_config(aws))
        provider = AWSNodeProvider(ready["provider"], ready["cluster_name"])
        for node_type in ready["available_node_types"].values():
            provider.create_node(node_type["node_config"], {}, 1)
        ec2 = boto3.client("ec2", region)
        instances = [one for group in ec2.describe_instances()["Reservations"] for one in group["Instances"]]
        (groups,) = {frozenset(group["GroupId"] for group in one["SecurityGroups"]) for one in instances}
        rules = ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    assert len(instances) == 2
    (group,) = rules
    assert group["GroupName"] == aws["provider"]["security_group"]["GroupName"]
    outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in outside] == [("tcp", 22, 22)]
    inside = [pair["GroupId"] for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]]
    assert inside == [group["GroupId"]]


def test_the_aws_cluster_is_set_up_like_the_local_one(aws: Any) -> None:
    local = load(ROOT / "ray_cluster.yaml")
    for part in ("file_mounts", "rsync_exclude", "setup_commands"):
        assert aws[part] == local[part], part
    assert [
        path
        for path in aws["file_mounts"].values()
        if not path.startswith("~") and not (ROOT / path).exists()
    ] == []


def test_the_dashboard_of_the_aws_cluster_listens_on_the_head_nodes_loopback(aws: Any) -> None:
    assert start_options(aws["head_start_ray_commands"][-1])["--dashboard-host"] == "127.0.0.1"
    assert start_options(aws["worker_start_ray_commands"][-1])["--address"] == "$RAY_HEAD_IP:6379"


def test_every_shell_on_an_aws_machine_enables_the_token(aws: Any, tmp_path: Path) -> None:
    commands = [*aws["initialization_commands"], *aws["setup_commands"]]
    commands = [command for command in commands if ".asdbench.sh" in command or "auth_token" in command]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch(0o644)
    for command in commands * 2:  # `ray up` runs the commands again
        subprocess.run(
            ["bash", "-c", command], env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]}, check=True
        )
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".bashrc").read_text().count("asdbench.sh") == 1
    show = "source ~/.bashrc; echo $RAY_AUTH_MODE $RAY_ADDRESS $ASDBENCH_HOME $PATH"
    shown = subprocess.run(
        ["bash", "-c", show],
        env={"HOME": str(tmp_path), "PATH": "/bin"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.split() == [
        "token",
        "auto",
        "/shared/asdbench",
        f"{tmp_path}/asdbench/.venv/bin:/bin",
    ]


# Kubernetes


@pytest.fixture
def kuberay() -> dict[str, Any]:
    return {item["kind"]: item for item in load(CLUSTERS / "kuberay.yaml")["items"]}


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return a function from a name such as ``core_v1.PodTemplateSpec`` to its Kubernetes API class."""
    pytest.importorskip("lightkube.models")
    schema: Any = types.ModuleType("lightkube.core.schema")  # everything that the models need from lightkube
    schema.DictMixin, schema.dataclass, schema.field = object, dataclasses.dataclass, dataclasses.field
    monkeypatch.setitem(sys.modules, "lightkube.core", types.ModuleType("lightkube.core"))
    monkeypatch.setitem(sys.modules, "lightkube.core.schema", schema)

    def model(name: str) -> Any:
        module, _, kind = name.partition(".")
        return getattr(import_module(f"lightkube.models.{module}"), kind)

    return model


def misfits(value: Any, kind: Any, path: str = "") -> Iterator[str]:
    """Yield where ``value`` does not match ``kind``: unknown names, missing ones, wrong types."""
    if typing.get_origin(kind) is typing.Union:
        mismatches = [
            list(misfits(value, one, path)) for one in typing.get_args(kind) if one is not type(None)
        ]
        yield from [] if [] in mismatches else mismatches[0]
    elif dataclasses.is_dataclass(kind):
        fields = {field.metadata.get("json", field.name): field for field in dataclasses.fields(kind)}
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict):
            yield f"{path} is not a mapping"
            return
        yield from (f"{path}.{name} is unknown" for name in value.keys() - fields.keys())
        for name, field in fields.items():
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if name in value:
                yield from misfits(value[name], hints[field.name], f"{path}.{name}")
            elif needed:
                yield f"{path}.{name} is missing"
    elif typing.get_origin(kind) is list:
        if not isinstance(value, list):
            yield f"{path} is not a list"
            return
        for index, one in enumerate(value):
            yield from misfits(one, typing.get_args(kind)[0], f"{path}[{index}]")
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        yield f"{path} is {value!r}, not {kind.__name__}"


def templates(kuberay: dict[str, Any]) -> list[Any]:
    spec = kuberay["RayCluster"]["spec"]
    return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]


def test_misfits_are_reported(models: Callable[[str], Any], kuberay: dict[str, Any]) -> None:
    container = {"name": 1, "imagee": "x", "env": [{"value": "v"}], "ports": {}}
    mismatches = set(misfits({"spec": {"containers": [container]}}, models("core_v1.PodTemplateSpec")))
    path = ".spec.containers[0]"
    assert mismatches == {
        f"{path}.name is 1, not str",
        f"{path}.imagee is unknown",
        f"{path}.env[0].name is missing",
        f"{path}.ports is not a list",
    }


def test_kubernetes_accepts_the_pods_the_volume_and_the_policy(
    kuberay: dict[str, Any], models: Callable[[str], Any]
) -> None:
    for template in templates(kuberay):
        assert list(misfits(template, models("core_v1.PodTemplateSpec"))) == []
    for kind, model in (
        ("PersistentVolumeClaim", "core_v1.PersistentVolumeClaim"),
        ("NetworkPolicy", "networking_v1.NetworkPolicy"),
    ):
        assert list(misfits(kuberay[kind], models(model))) == []
    for kind in ("RayCluster", "RayJob"):
        assert list(misfits(kuberay[kind]["metadata"], models("meta_v1.ObjectMeta"))) == []


# Fields from KubeRay's API reference (ray.io/v1, KubeRay 1.6); no package ships a schema of them.
RAY_CLUSTER = {
    "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
    "headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend", "workerGroupSpecs",
}  # fmt: skip
AUTOSCALER = {
    "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources", "securityContext",
    "upscalingMode", "version", "volumeMounts",
}  # fmt: skip
GROUP = {"idleTimeoutSeconds", "labels", "rayStartParams", "resources", "template"}
HEAD_GROUP = GROUP | {"enableIngress", "headService", "serviceType"}
WORKER_GROUP = GROUP | {
    "groupName", "maxReplicas", "minReplicas", "numOfHosts", "replicas", "scaleStrategy", "suspend",
}  # fmt: skip
RAY_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint",
    "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata",
    "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig",
    "submitterPodTemplate", "suspend", "ttlSecondsAfterFinished",
}  # fmt: skip


def test_kuberay_and_ray_accept_the_cluster_and_the_job(kuberay: dict[str, Any]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    cluster, job = kuberay["RayCluster"], kuberay["RayJob"]
    spec = cluster["spec"]
    assert cluster["apiVersion"] == job["apiVersion"] == "ray.io/v1"
    assert job["spec"]["rayClusterSpec"] == spec
    assert job["spec"].keys() <= RAY_JOB
    assert spec.keys() <= RAY_CLUSTER
    assert spec["headGroupSpec"].keys() <= HEAD_GROUP
    (workers,) = spec["workerGroupSpecs"]
    assert workers.keys() <= WORKER_GROUP
    assert workers["replicas"] == workers["minReplicas"] == 0 < workers["maxReplicas"]
    assert spec["autoscalerOptions"].keys() <= AUTOSCALER
    for group in (spec["headGroupSpec"], workers):
        parameters = group["rayStartParams"].items()
        assert all(isinstance(value, str) for _, value in parameters)
        if parameters:
            start_options("ray start " + " ".join(f"--{name}={value}" for name, value in parameters))
    # validates against Ray's own schema and reads the resources as Ray does
    named = cluster | {"metadata": cluster["metadata"] | {"namespace": "asdbench"}}
    autoscaling = _derive_autoscaling_config_from_ray_cr(named)
    assert autoscaling["idle_timeout_minutes"] == 5
    node_types = autoscaling["available_node_types"]
    assert (node_types["gpu"]["min_workers"], node_types["gpu"]["max_workers"]) == (
        0,
        autoscaling["max_workers"],
    )
    assert node_types["headgroup"]["resources"]["CPU"] == 0
    assert node_types["gpu"]["resources"]["GPU"] == 1


def test_the_kubernetes_cluster_is_closed(kuberay: dict[str, Any]) -> None:
    spec = kuberay["RayCluster"]["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["headGroupSpec"]["enableIngress"] is False
    policy = kuberay["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    for rule in policy["ingress"]:
        (source,) = rule["from"]
        own_namespace = "namespaceSelector" not in source
        assert own_namespace or ([port["port"] for port in rule["ports"]] == [8265] and source["podSelector"])
    for template in templates(kuberay):
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True


def test_every_pod_has_the_shared_volume(kuberay: dict[str, Any]) -> None:
    for template in templates(kuberay):
        (container,) = template["spec"]["containers"]
        volume = template["spec"]["volumes"][0]
        assert (
            volume["persistentVolumeClaim"]["claimName"]
            == kuberay["PersistentVolumeClaim"]["metadata"]["name"]
        )
        (mount,) = container["volumeMounts"]
        assert mount["name"] == volume["name"]
        environment = {variable["name"]: variable["value"] for variable in container["env"]}
        assert Path(environment["ASDBENCH_HOME"]).is_relative_to(mount["mountPath"])
    assert kuberay["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_autoscaler_alone_has_kubernetes_credentials(
    kuberay: dict[str, Any], models: Callable[[str], Any]
) -> None:
    spec = kuberay["RayCluster"]["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    (mount,) = spec["autoscalerOptions"]["volumeMounts"]
    assert list(misfits(mount, models("core_v1.VolumeMount"))) == []
    head, *workers = [template["spec"] for template in templates(kuberay)]
    (credentials,) = [volume for volume in head["volumes"] if volume["name"] == mount["name"]]
    assert {next(iter(source)) for source in credentials["projected"]["sources"]} == {
        "serviceAccountToken", "configMap", "downwardAPI",
    }  # fmt: skip
    assert mount["name"] not in [one["name"] for one in head["containers"][0]["volumeMounts"]]
    assert mount["name"] not in [volume["name"] for worker in workers for volume in worker["volumes"]]


def test_the_image_has_what_the_cluster_needs(kuberay: dict[str, Any]) -> None:
    lines = (CLUSTERS / "Dockerfile").read_text(encoding="utf-8")
    version = kuberay["RayCluster"]["spec"]["rayVersion"]
    assert re.findall(r"^ARG RAY_VERSION=(.*)$", lines, flags=re.MULTILINE) == [version]
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (ray,) = [one for one in map(Requirement, project["dependencies"]) if one.name == "ray"]
    assert ray.specifier.contains(version)
    assert Version(version) >= Version("2.52")  # the first version with token authentication
    (folder,) = re.findall(r"^WORKDIR (.*)$", lines, flags=re.MULTILINE)
    copied = [
        source
        for names in re.findall(r"^COPY (.*) \S+$", lines, flags=re.MULTILINE)
        for source in names.split()
    ]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert {*project["readme"].split(), *project["license-files"], "pyproject.toml"} <= set(copied)
    (user,) = re.findall(r"useradd --uid (\d+)", lines)
    for template in templates(kuberay):
        assert template["spec"]["containers"][0]["workingDir"] == folder
        assert template["spec"]["securityContext"]["runAsUser"] == int(user)
    program, script, *_ = kuberay["RayJob"]["spec"]["entrypoint"].split()
    assert program == "python"
    inside = Path(script).relative_to(folder)
    assert inside.parts[0] in copied
    assert (ROOT / inside).is_file()


# Slurm

SLURM = CLUSTERS / "slurm.sh"

# Replaces every program that the script calls: logs the call and does the minimum of what the program does.
STAND_IN = """#!{python}
import json, os, pathlib, signal, sys, time

program, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
token = pathlib.Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "/nowhere"))
log = pathlib.Path({log!r})


def note(**what):
    known = {{name: value for name, value in os.environ.items() if name.startswith(("RAY_", "ASDBENCH_"))}}
    secret = [oct(token.stat().st_mode & 0o777), token.read_text()] if token.exists() else None
    call = {{"program": program, "arguments": arguments, "environment": known, "token": secret, **what}}
    with log.open("a") as lines:
        lines.write(json.dumps(call) + "\\n")


def wait(*ends):
    for end in ends:
        signal.signal(end, lambda number, frame: (note(ended=signal.Signals(number).name), sys.exit(1)))
    note()
    for _ in range(300):
        time.sleep(0.1)


if program == "scontrol":
    note()
    print("n1", "n2", "n3", sep="\\n")
elif program == "getent":
    print("127.0.1.1 STREAM n1", "10.1.2.3 STREAM n1", sep="\\n")
elif program == "srun":
    note()
    command = next(index for index, argument in enumerate(arguments) if not argument.startswith("--"))
    os.execvp(arguments[command], arguments[command:])
elif program == "ray" and arguments[0] == "start":
    if "--head" in arguments and os.environ["HEAD"] == "fails":
        sys.exit("no port")
    wait(signal.SIGTERM)
elif program == "ray":
    note()
    sys.exit('"program": "ray", "arguments": ["start", "--head"' not in log.read_text())
elif arguments[0] == "-":
    sys.stdin.read()
    while log.read_text().count('"program": "ray", "arguments": ["start"') < int(arguments[1]):
        time.sleep(0.02)
    note()
elif os.environ["SWEEP"] == "waits":
    wait(signal.SIGINT, signal.SIGTERM)
else:
    note()
    sys.exit(int(os.environ["SWEEP"]))
"""


@dataclasses.dataclass
class Slurm:
    """A job of the script whose programs are replaced by stand-ins."""

    folder: Path
    home: Path
    log: Path

    def start(self, *arguments: str, sweep: str = "0", head: str = "starts", home: bool = True) -> Any:
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NODELIST": "n[1-3]",
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SWEEP": sweep,
            "HEAD": head,
        } | ({"ASDBENCH_HOME": str(self.home)} if home else {})
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(["bash", str(SLURM), *arguments], env=environment, **output)  # type: ignore[call-overload]

    def run(self, *arguments: str, **how: Any) -> tuple[int, str]:
        job = self.start(*arguments, **how)
        output, _ = job.communicate(timeout=30)
        return job.returncode, output

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def happened(self) -> list[str]:
        """Return in order what was called and what ended by which signal, except the calls of ``srun``."""
        events = []
        for call in self.calls():
            ended = f" ended by {call['ended']}" if "ended" in call else ""
            if call["program"] != "srun":
                events.append(" ".join([call["program"], *call["arguments"]]) + ended)
        return events


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "log"
    log.touch()
    for program in ("scontrol", "getent", "srun", "ray", "python"):
        (programs / program).write_text(STAND_IN.format(python=sys.executable, log=str(log)))
        (programs / program).chmod(0o755)
    return Slurm(tmp_path, tmp_path / "home", log)


HEAD = (
    "ray start --head --block --node-ip-address=10.1.2.3 --port=6379 --dashboard-host=127.0.0.1 "
    "--disable-usage-stats"
)
WORKER = "ray start --block --address=10.1.2.3:6379"


def steps(slurm: Slurm, sweep: str) -> tuple[list[str], list[str]]:
    """Return what happened before the sweep, without repetitions, and everything from the sweep on."""
    happened = slurm.happened()
    at = happened.index(sweep)
    return list(dict.fromkeys(happened[:at])), happened[at:]


BEGINNING = [
    "scontrol show hostnames n[1-3]",
    HEAD,
    "ray health-check --address 10.1.2.3:6379",
    WORKER,
    "python - 3",
]


def test_shellcheck_accepts_the_script() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run([shellcheck, str(SLURM)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_slurm_reads_all_its_directives() -> None:
    lines = SLURM.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [line.split()[1] for line in lines[:first] if line.startswith("#SBATCH")]
    assert not [line for line in lines[first:] if line.startswith("#SBATCH")]
    assert {"--requeue", "--no-kill", "--exclusive", "--ntasks-per-node=1", "--signal=B:USR1@180"} <= set(
        directives
    )


def test_a_slurm_job_starts_ray_runs_the_sweep_and_stops_everything(slurm: Slurm) -> None:
    code, output = slurm.run("--data", "two words", "--trials", "20")
    assert code == 0, output
    sweep = "python sweeps/all_types.py --data two words --trials 20"
    before, after = steps(slurm, sweep)
    assert sorted(before[1:3]) == sorted(
        BEGINNING[1:3]
    )  # the first health check may run before the head node starts
    assert before[:1] + before[3:] == BEGINNING[:1] + BEGINNING[3:]
    assert after[0] == sweep
    assert sorted(after[1:]) == sorted([f"{HEAD} ended by SIGTERM", *[f"{WORKER} ended by SIGTERM"] * 2])
    calls = slurm.calls()
    placed = [call["arguments"] for call in calls if call["program"] == "srun"]
    assert all({"--export=ALL", "--nodes=1", "--ntasks=1"} <= set(arguments) for arguments in placed)
    assert sorted(node for arguments in placed for node in arguments if node.startswith("--nodelist=")) == [
        "--nodelist=n1",
        "--nodelist=n2",
        "--nodelist=n3",
    ]
    (of_sweep,) = [call for call in calls if call["arguments"][:1] == ["sweeps/all_types.py"]]
    assert of_sweep["arguments"] == ["sweeps/all_types.py", "--data", "two words", "--trials", "20"]
    assert of_sweep["environment"]["RAY_ADDRESS"] == "10.1.2.3:6379"
    assert start_options(HEAD)["--dashboard-host"] == "127.0.0.1"
    assert "--address" in start_options(WORKER)


def test_only_the_owners_file_contains_the_token(slurm: Slurm) -> None:
    _, output = slurm.run("--data", "x")
    calls = [call for call in slurm.calls() if call["program"] in ("srun", "ray", "python")]
    ((mode, token),) = {tuple(call["token"]) for call in calls}
    assert mode == "0o600"
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert {call["environment"]["RAY_AUTH_MODE"] for call in calls} == {"token"}
    assert all(Path(call["environment"]["RAY_AUTH_TOKEN_PATH"]).parent == slurm.home for call in calls)
    assert token not in json.dumps([[call["arguments"], call["environment"]] for call in calls])
    assert token not in output
    assert list(slurm.home.iterdir()) == []
    slurm.run("--data", "x")
    assert (
        len({tuple(call["token"]) for call in slurm.calls() if call["program"] == "ray"}) == 2
    )  # each job has its own token


def test_the_job_exits_with_the_code_of_the_sweep(slurm: Slurm) -> None:
    code, output = slurm.run(sweep="3")
    assert code == 3, output
    assert "scontrol requeue 77" not in slurm.happened()


@pytest.mark.parametrize(("sent", "code", "requeued"), [("SIGTERM", 143, False), ("SIGUSR1", 0, True)])
def test_a_signal_stops_everything_and_the_time_limit_requeues_the_job(
    slurm: Slurm, sent: str, code: int, requeued: bool
) -> None:
    job = slurm.start("--data", "x", sweep="waits")
    sweep = "python sweeps/all_types.py --data x"
    until = time.monotonic() + 20
    while sweep not in slurm.happened() and time.monotonic() < until:
        time.sleep(0.05)
    job.send_signal(signal.Signals[sent])
    output, _ = job.communicate(timeout=20)
    assert job.returncode == code, output
    _, after = steps(slurm, sweep)
    ended = after[1:-1] if requeued else after[1:]
    assert ended[0] == f"{sweep} ended by SIGINT"
    assert sorted(ended[1:]) == sorted([f"{HEAD} ended by SIGTERM", *[f"{WORKER} ended by SIGTERM"] * 2])
    assert (after[-1] == "scontrol requeue 77") is requeued
    assert list(slurm.home.iterdir()) == []


def test_a_head_node_that_does_not_start_is_reported(slurm: Slurm) -> None:
    code, output = slurm.run(head="fails")
    assert code == 1
    assert "Ray did not start on n1 (10.1.2.3:6379)" in output
    assert not [event for event in slurm.happened() if event == WORKER or event.startswith("python")]


def test_the_shared_folder_must_be_set(slurm: Slurm) -> None:
    code, output = slurm.run(home=False)
    assert code == 1
    assert "ASDBENCH_HOME: is not set; set it to a folder that all nodes see" in output
