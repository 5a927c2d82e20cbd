"""Effect of each part of the report's recipe: official scores from stored component scores.

This script trains nothing. Run the systems first, then this script with the same data set, seeds and preset::

    systems="multitask-mel multitask-combined adversarial baseline-mse baseline-maha"
    asdbench run $systems --data shop --preset fast,altered --seeds 0 1
    asdbench run multitask-mel --data shop --preset fast,altered --seeds 0 1 --set augment=false
    asdbench run multitask-mel --data shop --preset fast,altered --seeds 0 1 --set binary_weight=0
    python benchmarks/ablations.py --data shop --seeds 0 1

Prints official scores in percent, over all machine types and for each of them, averaged over seeds. ``leave
one type out`` chooses the best row of its block on all machine types but one and shows the score on the one
left out: an estimate of how such choices carry over to an unseen machine. Labels of test clips are used to
compare, never to train, standardize or weight.
"""

import argparse
import statistics

import numpy as np
import polars as pl
import torch

from asdbench import registry
from asdbench.backends import SCORES
from asdbench.data.sets import catalog
from asdbench.engine.evaluation import anomaly_scores, components_of
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob
from asdbench.engine.scoring import standardized
from asdbench.io.workspace import Workspace
from asdbench.metrics import section_metrics
from asdbench.system import on_scale

MEMBERS = ("multitask-mel", "multitask-combined", "adversarial")
BASELINES = ("baseline-mse", "baseline-maha")


class Board:
    """Stored scores of one data set."""

    def __init__(self, data, seeds, preset):
        self.data, self.seeds, self.preset = catalog.load(Workspace.from_environment(), data), seeds, preset
        truth = catalog.truth(catalog.load(Workspace.from_environment(), data))
        self.clips = self.data.clips.select("clip_id", "domain").join(truth, on="clip_id")
        self.machines = self.data.machine_types
        self.tables = {}

    def job(self, system, machine, seed, **settings):
        """Return a job of the preset if its scores are stored, else None."""
        configured = registry.configure(system, settings, preset=self.preset)
        resolved = ResolvedJob(configured, self.data, machine, seed)
        return resolved if JobStore.from_workspace(Workspace.from_environment()).is_scored(resolved) else None

    def table(self, system, machine, seed):
        """Return the test clips' components as z-scores of the hold-out; None if they are not stored."""
        key = (system, machine, seed)
        if key not in self.tables and (job := self.job(*key)) is not None:
            components = components_of(job, JobStore.from_workspace(Workspace.from_environment()))
            names = [name for name in components.columns if name not in ("clip_id", "use")]
            components = components.with_columns(
                pl.Series(name, standardized(components, name)) for name in names
            )
            self.tables[key] = components.filter(pl.col("use") == "test")
        return self.tables.get(key)

    def fused(self, machine, seed, systems, **settings):
        """Return clip ids and the mean of the systems' standardized anomaly scores."""
        total, clips = 0.0, None
        for system in systems:
            job = self.job(system, machine, seed, **settings)
            if job is None:
                return None
            scores = anomaly_scores(job, JobStore.from_workspace(Workspace.from_environment())).sort(
                "use", "clip_id"
            )
            test = (scores["use"] == "test").to_numpy()
            clips = scores["clip_id"].filter(test)
            total = total + standardized(scores, "score")[test] / len(systems)
        return clips, total

    def score(self, rule):
        """Return the metrics of each machine type, a list per seed; None if a score is missing.

        ``rule(machine, seed)`` returns clip ids and anomaly scores.
        """
        by_type = {}
        for machine in self.machines:
            values = []
            for seed in self.seeds:
                scored = rule(machine, seed)
                if scored is None:
                    return None
                judged = pl.DataFrame({"clip_id": scored[0], "score": scored[1]}).join(
                    self.clips, on="clip_id"
                )
                target = (judged["domain"] == "target").to_numpy()
                metrics = section_metrics(judged["score"].to_numpy(), judged["anomaly"].to_numpy(), target)
                values.append(list(metrics.values()))
            by_type[machine] = values
        return by_type


def weighed(board, system, weigh):
    """Return a rule that weights the z-scores of one system's components."""

    def rule(machine, seed):
        table = board.table(system, machine, seed)
        return None if table is None else (table["clip_id"], weigh(table))

    return rule


def several(board, *systems, **settings):
    """Return a rule that averages the anomaly scores of one or several systems."""
    return lambda machine, seed: board.fused(machine, seed, systems, **settings)


def squeeze(z):
    """Return z-scores on the logarithmic scale."""
    return on_scale(torch.from_numpy(z.copy()), "log").numpy()


def harmonic(values):
    return len(values) / sum(1 / max(value, 1e-12) for value in values)


def overall(by_type, machines, seed):
    return 100 * harmonic([value for machine in machines for value in by_type[machine][seed]])


def block(board, title, rules):
    """Print a table of rules, and the leave-one-type-out score of choosing among them."""
    print(f"\n### {title}\n\n| choice | all | {' | '.join(board.machines)} |")
    print("|---|---|" + "---|" * len(board.machines))
    results = {name: scores for name, rule in rules.items() if (scores := board.score(rule)) is not None}
    seeds = range(len(board.seeds))
    for name, scores in results.items():
        all_types = [overall(scores, board.machines, seed) for seed in seeds]
        spread = f" ± {statistics.stdev(all_types):.1f}" if len(all_types) > 1 else ""
        cells = [statistics.fmean(overall(scores, [m], seed) for seed in seeds) for m in board.machines]
        mean = statistics.fmean(all_types)
        print(f"| {name} | {mean:.1f}{spread} | {' | '.join(f'{c:.1f}' for c in cells)} |")
    if len(results) < 2 or len(board.machines) < 2:
        return
    left_out = {}
    for machine in board.machines:
        rest = [m for m in board.machines if m != machine]
        rest_scores = {
            name: statistics.fmean(overall(scores, rest, seed) for seed in seeds)
            for name, scores in results.items()
        }
        best = max(rest_scores, key=rest_scores.get)
        left_out[machine] = [results[best][machine][seed] for seed in seeds]
    cells = [statistics.fmean(overall(left_out, [m], seed) for seed in seeds) for m in board.machines]
    value = statistics.fmean(overall(left_out, board.machines, seed) for seed in seeds)
    print(f"| *leave one type out* | {value:.1f} | {' | '.join(f'{c:.1f}' for c in cells)} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--preset", default="fast,altered")
    arguments = parser.parse_args()
    board = Board(arguments.data, arguments.seeds, arguments.preset)

    for system in MEMBERS[:2]:
        alone = {}
        pairs = {}
        for name in ("logit", *SCORES):
            alone[name] = weighed(board, system, lambda t, n=name: t[n].to_numpy())
        for name in SCORES:
            pairs |= {
                f"logit + {name}": weighed(board, system, lambda t, n=name: (t["logit"] + t[n]).to_numpy()),
                f"logit + {name}, log": weighed(
                    board, system, lambda t, n=name: squeeze(t["logit"].to_numpy()) + squeeze(t[n].to_numpy())
                ),
                f"max(logit, 0) + {name}": weighed(
                    board, system, lambda t, n=name: np.maximum(t["logit"].to_numpy(), 0) + t[n].to_numpy()
                ),
            }
        block(board, f"{system}: one component alone", alone)
        block(board, f"{system}: the classifier and a back end", pairs)
        for name in ("gmm", "knn-density"):
            block(
                board,
                f"{system}: weight of the classifier beside {name}",
                {
                    f"w = {w:g}, {scale}": several(
                        board, system, classifier_weight=w, backend=name, fusion_scale=scale
                    )
                    for scale in ("linear", "log")
                    for w in (0.0, 0.25, 0.5, 0.75, 1.0)
                },
            )
    mel = "multitask-mel"
    tasks = {
        "all tasks": several(board, mel),
        "without augmentation and its task": several(board, mel, augment=False),
        "augmented, without the task": several(board, mel, augmentation_weight=0.0),
        "back end alone": several(board, mel, classifier_weight=0.0),
        "back end alone, trained without pseudo-anomalies": several(
            board, mel, binary_weight=0.0, classifier_weight=0.0
        ),
    }
    block(board, "multitask-mel: tasks", tasks)
    ensembles = {name: several(board, name) for name in (*MEMBERS, *BASELINES)}
    ensembles["ensemble"] = several(board, *MEMBERS)
    ensembles["with both baselines"] = several(board, *MEMBERS, *BASELINES)
    ensembles["with baseline-mse"] = several(board, *MEMBERS, "baseline-mse")
    ensembles["without adversarial"] = several(board, *MEMBERS[:2])
    ensembles["without adversarial, with baseline-mse"] = several(board, *MEMBERS[:2], "baseline-mse")
    block(board, "systems and ensembles", ensembles)


if __name__ == "__main__":
    main()
