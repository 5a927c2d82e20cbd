"""How well each threshold method keeps its nominal false alarm rate, from stored scores.

For every machine type, system and seed that has run on a data set: false alarms among the held-out normals,
each judged by a threshold of the others (cross-fitted), false alarms among the test normals of each domain,
and F1 of each domain. Shares with their 95 % interval (Clopper and Pearson); the nominal rate is 10 %. The
labels and domains of test clips are used here to measure, never to set a threshold.

    python benchmarks/thresholds.py --data shop --systems baseline-mse multitask-mel --preset fast --seeds 0 1
"""

import argparse
import statistics

import polars as pl

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import anomaly_scores, decision_threshold
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import Job, ResolvedJob
from asdbench.io.workspace import Workspace
from asdbench.metrics import THRESHOLDS, decision_metrics, false_alarms
from asdbench.metrics.threshold import binomial_interval


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--systems", nargs="+", required=True)
    parser.add_argument("--preset", default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    chosen = parser.parse_args()
    data = catalog.load(Workspace.from_environment(), chosen.data)
    truth = catalog.truth(catalog.load(Workspace.from_environment(), chosen.data)).join(
        data.clips.select("clip_id", "domain"), on="clip_id"
    )
    counted = {
        (system, method): {"held out": [0, 0], "source": [0, 0], "target": [0, 0], "f1": []}
        for system in chosen.systems
        for method in THRESHOLDS
    }
    for system in chosen.systems:
        configured = registry.configure(system, preset=chosen.preset)
        for machine in data.machine_types:
            for seed in chosen.seeds:
                job = ResolvedJob(
                    Job(system, configured.changed(), chosen.data, machine, seed), configured, data
                )
                scores = anomaly_scores(job, JobStore.from_workspace(Workspace.from_environment()))
                for method in THRESHOLDS:
                    count(counted[system, method], scores, truth, method)
    show(counted)


def count(found, scores, truth, method):
    normal = scores.filter(pl.col("use") != "test")["score"].to_numpy()
    add(found["held out"], *false_alarms(normal, method=method))
    limit = decision_threshold(scores, method=method)
    judged = scores.filter(pl.col("use") == "test").join(truth, on="clip_id")
    judged = judged.with_columns(called=pl.col("score") > limit)
    for domain in ("source", "target"):
        normals = judged.filter(~pl.col("anomaly") & (pl.col("domain") == domain))
        add(found[domain], int(normals["called"].sum()), normals.height)
    target = (judged["domain"] == "target").to_numpy()
    decided = decision_metrics(judged["called"].to_numpy(), judged["anomaly"].to_numpy(), target)
    found["f1"].append((decided["f1_source"], decided["f1_target"]))


def add(total, alarms, of):
    total[0] += alarms
    total[1] += of


def show(counted):
    header = ("system", "threshold", "false alarms, held out", "test, source", "test, target")
    print("| " + " | ".join((*header, "F1 source", "F1 target")) + " |")
    print("|---|---|---|---|---|---|---|")
    for (system, method), found in counted.items():
        cells = [share(*found[place]) for place in ("held out", "source", "target")]
        f1 = [f"{100 * statistics.fmean(values):.0f}" for values in zip(*found["f1"], strict=True)]
        print(f"| `{system}` | {method} | {' | '.join([*cells, *f1])} |")
    for method in THRESHOLDS:
        alarms, of = (sum(f["held out"][k] for (_, m), f in counted.items() if m == method) for k in (0, 1))
        print(f"| all | {method} | {share(alarms, of)} | | | | |")


def share(alarms, of):
    low, high = binomial_interval(alarms, of)
    return f"{100 * alarms / of:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


if __name__ == "__main__":
    main()
