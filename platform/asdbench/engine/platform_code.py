"""Hashes of the platform's code that a training, a scoring and a judgment execute.

Idea: nobody has to remember that an edit changes results. What a step executes is the import graph from its
entry down to layers, features and metrics, without what cannot change a number:

- `asdbench.io`, `asdbench.config`, `asdbench.registry` and all rooms above the engine: settings are in the
  keys by value, and what is stored comes back as it was, or not at all;
- how clips are registered and compared (`asdbench.data.sets`, `asdbench.data.fingerprint`), copied and
  verified: the clips' content is in the keys;
- pretrained weights, which count by their SHA-256, and encoders, whose code counts where a job reads their
  embeddings (`asdbench.data.embeddings.code`);
- records of what happened, and checks that raise or pass.

Any other module counts as soon as one of these imports it.
"""

from functools import cache

from asdbench.source_code import hash_of

_ROOMS = (
    "asdbench.backends",
    "asdbench.data",
    "asdbench.engine",
    "asdbench.features",
    "asdbench.metrics",
    "asdbench.nn",
    "asdbench.random_by_row",
    "asdbench.spec",
    "asdbench.system",
)
_WITHOUT = (
    "asdbench.data.digests",
    "asdbench.data.embeddings",
    "asdbench.data.fingerprint",
    "asdbench.data.node_copies",
    "asdbench.data.sets",
    "asdbench.engine.claims",
    "asdbench.engine.events",
    "asdbench.engine.fit_check",
    "asdbench.engine.guard",
    "asdbench.engine.job_store",
    "asdbench.engine.landlock",
    "asdbench.engine.module_state",
    "asdbench.engine.platform_code",
    "asdbench.engine.result_record",
    "asdbench.engine.single_clip_check",
    "asdbench.engine.task_records",
    "asdbench.engine.tracebacks",
    "asdbench.engine.versions",
)


@cache
def training_code() -> str:
    """Return a hash of what a training executes of the platform: the loop, the loader and the features.

    A training alone and one in a stack have the same key, so that the code of both counts.
    """
    scoring = ("asdbench.engine.scoring", "asdbench.engine.fitted_fusion")
    return hash_of("asdbench.engine.stacks", _ROOMS, without=(*_WITHOUT, *scoring))


@cache
def scoring_code() -> str:
    """Return a hash of what it takes to score a trained model besides what `training_code` covers."""
    return hash_of("asdbench.engine.scoring", _ROOMS, without=(*_WITHOUT, "asdbench.engine.fitted_fusion"))


@cache
def judging_code() -> str:
    """Return a hash of what it takes to judge scores: their fusion, thresholds and metrics."""
    others = (
        "asdbench.data.batch_frames",
        "asdbench.data.loader",
        "asdbench.engine.device_batches",
        "asdbench.engine.jobs",
        "asdbench.engine.pretrained",
        "asdbench.engine.run_task",
    )
    return hash_of("asdbench.engine.evaluation", _ROOMS, without=(*_WITHOUT, *others))
