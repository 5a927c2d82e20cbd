"""Development and evaluation clips of one data set: run, judged, shown and recorded apart."""

import json
from pathlib import Path

import polars as pl
import pytest

from asdbench.data.sets import catalog
from asdbench.data.sets.ground_truth import match_labels, read_ground_truth
from asdbench.data.sets.layouts import TWO_MICROPHONES
from asdbench.driver import judging
from asdbench.driver.request import RunRequest, resolve_jobs
from asdbench.engine.evaluation import (
    NoLabels,
    evaluate,
    judge_sections,
    labeled_clips,
    labeled_types,
    result_key,
)
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.engine.judge import judge
from asdbench.engine.result_record import SearchProvenance
from asdbench.errors import InputError
from asdbench.io.workspace import Workspace
from asdbench.metrics import IN_DOMAIN, OFFICIAL, WITHOUT_DOMAINS
from asdbench.testing import write_tiny
from tests.commands import asdbench
from tests.miniatures import MINIATURES, write_miniature

SETTINGS = {"epochs": 1, "hidden": 8, "frames": 2, "n_mels": 16}
QUICK = ("--local", "--set", *(f"{key}={value}" for key, value in SETTINGS.items()))
DEV, EVAL = ["ToyCar", "fan"], ["ToyTank", "bandsaw"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def first_shot(home: Path, tmp_path: Path) -> Path:
    """Two machine types in each subset, registered as ``both``; the folder of the ground truth."""
    written = write_miniature(tmp_path / "first-shot", MINIATURES["first shot"])
    catalog.add(Workspace.from_environment(), "both", written.data)
    return written.ground_truth


def label(ground_truth: Path) -> None:
    data = catalog.load(Workspace.from_environment(), "both")
    catalog.label(
        catalog.load(Workspace.from_environment(), "both"),
        match_labels(data.clips, read_ground_truth(ground_truth)).table,
    )


@pytest.mark.parametrize("name", MINIATURES)
def test_the_layout_brings_the_rule_under_any_name(home: Path, tmp_path: Path, name: str) -> None:
    layout = TWO_MICROPHONES if name == "two microphones" else None
    data = catalog.add(
        Workspace.from_environment(),
        "mine",
        write_miniature(tmp_path / "m", MINIATURES[name]).data,
        layout=layout,
    )
    own = {"machine ids": WITHOUT_DOMAINS, "domain folders": IN_DOMAIN}
    assert data.rule is own.get(name, OFFICIAL)
    assert data.subsets() == ("dev", "eval")
    assert [data.suffix(subset) for subset in data.subsets()] == [" (dev subset)", " (eval subset)"]


def test_a_run_may_be_of_the_machine_types_of_a_subset(first_shot: Path) -> None:
    def types(**options: object) -> list[str]:
        return [
            job.job.machine_type
            for job in resolve_jobs(
                RunRequest(["baseline-mse"], "both", **options), Workspace.from_environment()
            )
        ]

    assert types() == sorted([*DEV, *EVAL])
    assert (types(subset="dev"), types(subset="eval")) == (DEV, EVAL)
    assert types(subset="eval", machines=["bandsaw"]) == ["bandsaw"]
    with pytest.raises(InputError, match="no machine type in the subset eval of data set 'both': 'fan'"):
        types(subset="eval", machines=["fan"])


def test_a_subset_that_is_not_there_is_refused(home: Path, tmp_path: Path) -> None:
    catalog.add(Workspace.from_environment(), "tiny", write_tiny(tmp_path / "tiny"))
    with pytest.raises(InputError, match="no clips in the subset eval of data set 'tiny'; drop --subset"):
        resolve_jobs(RunRequest(["baseline-mse"], "tiny", subset="eval"), Workspace.from_environment())


def test_a_run_closes_with_the_subsets_that_it_judged_and_records_them_apart(
    first_shot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(first_shot)
    run = ("run", "baseline-mse", "--data", "both", *QUICK)
    assert asdbench(*run, "--subset", "eval") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 jobs, 2 trainings" in said
    assert "Leaderboard of both (eval subset)" in said
    assert "dev subset" not in said
    assert asdbench(*run) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.index("Leaderboard of both (dev subset)") < said.index("Leaderboard of both (eval subset)")
    assert "run 'asdbench ui'" in said

    from mlflow import MlflowClient

    from asdbench.tracking.address import Address

    client = MlflowClient(Address.from_workspace(Workspace.from_environment()).uri)
    for experiment, types in (("asdbench/both", DEV), ("asdbench/both/eval", EVAL)):
        found = client.get_experiment_by_name(experiment)
        (outer,) = [
            run
            for run in client.search_runs([found.experiment_id])
            if "mlflow.parentRunId" not in run.data.tags
        ]
        assert outer.data.tags["asdbench.machine_types"] == ", ".join(types)
        assert "official_score" in outer.data.metrics


def test_where_only_evaluation_clips_have_labels_they_are_shown(
    first_shot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    label(first_shot)
    evaluation = catalog.load(Workspace.from_environment(), "both").clips.filter(subset="eval")
    known = catalog.truth(catalog.load(Workspace.from_environment(), "both")).join(
        evaluation, on="clip_id", how="semi"
    )
    monkeypatch.setattr(catalog, "truth", lambda name: known)
    monkeypatch.setattr(judging, "judge_process", lambda: judge)  # in this process, which knows no more
    assert asdbench("run", "baseline-mse", "--data", "both", "--machines", "bandsaw", "fan", *QUICK) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no test clip of machine type 'fan' of data set 'both' (dev subset) has a known label" in said
    assert "Leaderboard of both (eval subset)" in said
    assert asdbench("leaderboard", "--data", "both", "--by", "type", "--format", "json") == 0
    out, err = capsys.readouterr()
    assert [row["machine_type"] for row in json.loads(out)] == ["bandsaw"]
    assert "--subset eval shows" not in err
    job = ResolvedJob.from_workspace(
        Job("baseline-mse", SETTINGS, "both", "fan", 0), Workspace.from_environment()
    )
    with pytest.raises(
        NoLabels, match=r"no test clip of machine type 'fan' of data set 'both' \(dev subset\) has"
    ):
        evaluate(job, JobStore.from_workspace(Workspace.from_environment()))


def test_a_section_with_clips_of_both_subsets_is_judged_in_each(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a manifest can say so: the second half of the test clips of each kind is of eval."""
    folder = write_tiny(tmp_path / "tiny", machine_types=("fan",), test_clips_per_cell=4)
    rows = ["path,machine_type,split,label,domain,subset"]
    for clip in sorted(folder.rglob("*.wav")):
        _, _, domain, split, kind, number, *_ = clip.stem.split("_")
        subset = "eval" if split == "test" and int(number) % 2 else "dev"
        rows.append(f"{clip.relative_to(folder)},fan,{split},{kind},{domain},{subset}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    data = catalog.add(Workspace.from_environment(), "mixed", folder, manifest=tmp_path / "clips.csv")
    assert labeled_types(data, subset="dev") == labeled_types(data, subset="eval") == ["fan"]
    assert asdbench("run", "baseline-mse", "--data", "mixed", *QUICK) == 0
    job = ResolvedJob.from_workspace(
        Job("baseline-mse", SETTINGS, "mixed", "fan", 0), Workspace.from_environment()
    )
    records = {
        subset: evaluate(job, JobStore.from_workspace(Workspace.from_environment()), subset=subset).record
        for subset in ("dev", "eval")
    }
    for subset, record in records.items():
        tested = data.clips.filter((pl.col("split") == "test") & (pl.col("subset") == subset))
        assert [section.clips for section in record.sections.values()] == [tested.height] == [8]
        assert record.subset == subset
        judged = judge_sections(job, JobStore.from_workspace(Workspace.from_environment()), subset=subset)
        assert judged == {section: metrics.official for section, metrics in record.sections.items()}
    assert evaluate(job, JobStore.from_workspace(Workspace.from_environment())).record == records["dev"]
    for subset, told in (("dev", "so this score is optimistic"), ("eval", "were not used")):
        evaluate(
            job,
            JobStore.from_workspace(Workspace.from_environment()),
            subset=subset,
            tuned=SearchProvenance("abc", 20),
        )
        capsys.readouterr()
        assert asdbench("leaderboard", "--data", "mixed", "--subset", subset, "--format", "markdown") == 0
        said = capsys.readouterr().out
        assert said.count("(dev-tuned, 20 trials)") == 1
        assert told in said


def test_a_result_depends_on_rule_subset_labels_and_domains_of_its_own_clips(
    first_shot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ResolvedJob.from_workspace(
        Job("baseline-mse", SETTINGS, "both", "fan", 0), Workspace.from_environment()
    )
    clips = labeled_clips(job.data, subset="dev").filter(machine_type="fan")
    key = result_key(job, clips, subset="dev")
    first = pl.int_range(pl.len()) == 0
    keys = {
        key,
        result_key(job, clips, subset="eval"),
        result_key(job, clips.with_columns(anomaly=first ^ pl.col("anomaly")), subset="dev"),
        result_key(job, clips.with_columns(domain=pl.when(~first).then("domain")), subset="dev"),
    }
    label(first_shot)
    now = ResolvedJob.from_workspace(job.job, Workspace.from_environment())
    assert result_key(now, labeled_clips(now.data).filter(machine_type="fan"), subset="dev") == key
    monkeypatch.setitem(vars(job.data), "rule", IN_DOMAIN)
    keys.add(result_key(job, clips, subset="dev"))
    assert len(keys) == 5
