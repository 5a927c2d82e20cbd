"""Made-up results are complete, equal for equal arguments, and as good as asked for."""

from pathlib import Path

import numpy as np

from asdbench import registry
from asdbench.data.sets import catalog
from asdbench.engine.job_store import JobStore
from asdbench.engine.jobs import ResolvedJob, TrainingTask
from asdbench.io.storage import Storage
from asdbench.io.workspace import Workspace
from asdbench.metrics import official_score
from asdbench.testing import write_tiny
from asdbench.testing.scores import write_scores


def test_made_up_results_are_complete_and_as_good_as_asked_for(tmp_path: Path) -> None:
    workspace = Workspace.from_home(tmp_path / "home")
    data = catalog.add(workspace, "tiny", write_tiny(tmp_path / "clips", test_clips_per_cell=20))
    configured = registry.configure("baseline-mse")
    job = ResolvedJob.from_configured(configured, data, "fan", seed=3)
    scores, stores = [], [JobStore(Storage.from_location(tmp_path / name)) for name in "abc"]
    for store, separation in zip(stores, (3.0, 3.0, 0.5), strict=True):
        (record,) = write_scores([job], store, separation=separation)
        scores.append(official_score(record.official_metrics))
        assert store.is_done(TrainingTask((job,)))
        assert store.is_readable(TrainingTask((job,)))
    assert scores[0] == scores[1] > scores[2] + 0.2
    one, other = (store.embeddings(job.scoring_key) for store in stores[:2])
    assert one is not None
    assert np.array_equal(one, other)
    assert len(one) == stores[0].components(job.scoring_key).height
