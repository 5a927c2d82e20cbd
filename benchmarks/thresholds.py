"""False alarm rate of each threshold method compared with its nominal rate, from stored scores.

For every machine type, system and seed that has run on a data set: false alarms among the held-out normal
clips, each judged by a threshold computed without its recording or group (cross-fitted), false alarms among
the normal test clips of each domain, and F1 of each domain. Machine types with too few normal clips for a
threshold are named and left out. With ``--source-only`` held-out target clips are not used, which shows what
they change. Rates have 95 % intervals (Clopper and
Pearson); the nominal rate is 10 %. The labels and domains of test clips are used here to measure, never to
set a threshold.

    python benchmarks/thresholds.py --data shop --systems baseline-mse multitask-mel --preset fast --seeds 0 1
"""

import argparse
import statistics

import polars as pl

from asdbench import registry
from asdbench.config import parse_assignments
from asdbench.data.sets import catalog
from asdbench.engine.decision_thresholds import decision_thresholds
from asdbench.engine.evaluation import anomaly_scores
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.io.workspace import Workspace
from asdbench.metrics import THRESHOLDS, decision_metrics
from asdbench.metrics.threshold import binomial_interval


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--systems", nargs="+", required=True)
    parser.add_argument("--preset", default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="+", default=[], help="settings, as name=value")
    parser.add_argument("--source-only", action="store_true")
    arguments = parser.parse_args()
    data = catalog.load(Workspace.from_environment(), arguments.data)
    truth = catalog.truth(catalog.load(Workspace.from_environment(), arguments.data)).join(
        data.clips.select("clip_id", "domain"), on="clip_id"
    )
    counted = {
        (system, method): {"held out": [0, 0], "source": [0, 0], "target": [0, 0], "f1": []}
        for system in arguments.systems
        for method in THRESHOLDS
    }
    for system in arguments.systems:
        configured = registry.configure(system, parse_assignments(arguments.set), preset=arguments.preset)
        for machine in data.machine_types:
            for seed in arguments.seeds:
                job = ResolvedJob(configured, data, machine, seed)
                scores = anomaly_scores(job, JobStore.from_workspace(Workspace.from_environment()))
                if arguments.source_only:
                    scores = scores.filter(pl.col("use") != "hold-out-target")
                for method in THRESHOLDS:
                    count(counted[system, method], job, scores, truth, method)
    show(counted)


def count(counts, job, scores, truth, method):
    stored = decision_thresholds(job, scores)[method]
    if stored.threshold is None:
        print(f"{job.machine_type}, {job.job.system}: {stored.shortfall}")
        return
    for normals in stored.held_out.values():
        add(counts["held out"], normals.false_alarms, normals.normals)
    judged = scores.filter(pl.col("use") == "test").join(truth, on="clip_id")
    judged = judged.with_columns(called=pl.col("score") > stored.threshold)
    for domain in ("source", "target"):
        normals = judged.filter(~pl.col("anomaly") & (pl.col("domain") == domain))
        add(counts[domain], int(normals["called"].sum()), normals.height)
    target = (judged["domain"] == "target").to_numpy()
    decided = decision_metrics(judged["called"].to_numpy(), judged["anomaly"].to_numpy(), target)
    counts["f1"].append((decided["f1_source"], decided["f1_target"]))


def add(total, alarms, n_clips):
    total[0] += alarms
    total[1] += n_clips


def show(counted):
    header = ("system", "threshold", "false alarms, held out", "test, source", "test, target")
    print("| " + " | ".join((*header, "F1 source", "F1 target")) + " |")
    print("|---|---|---|---|---|---|---|")
    for (system, method), counts in counted.items():
        cells = [share(*counts[kind]) for kind in ("held out", "source", "target")]
        f1 = [f"{100 * statistics.fmean(values):.0f}" for values in zip(*counts["f1"], strict=True)]
        print(f"| `{system}` | {method} | {' | '.join([*cells, *f1])} |")
    for method in THRESHOLDS:
        alarms, n_clips = (
            sum(f["held out"][k] for (_, m), f in counted.items() if m == method) for k in (0, 1)
        )
        print(f"| all | {method} | {share(alarms, n_clips)} | | | | |")


def share(alarms, n_clips):
    if not n_clips:  # a single group is held out
        return ""
    low, high = binomial_interval(alarms, n_clips)
    return f"{100 * alarms / n_clips:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


if __name__ == "__main__":
    main()
