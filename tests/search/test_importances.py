"""Importances of the parameters of a stored search."""

from pathlib import Path

import msgspec

from asdbench.engine.search_record import StudyRecord
from asdbench.report.report_data import stored_searches
from asdbench.search.importances import parameter_importances
from tests.report.made_up import made_up, save_study


def study(folder: Path, n_trials: int) -> StudyRecord:
    data, store = made_up(folder, [])
    save_study(data, store, n_trials=n_trials)
    return stored_searches(store, data)[0]


def test_the_parameter_that_moves_the_score_explains_it(tmp_path: Path) -> None:
    record = study(tmp_path, 8)
    found = parameter_importances(record)
    assert list(found) == ["learning_rate", "hidden"]
    assert found["learning_rate"] > 0.99
    assert parameter_importances(record) == found


def test_few_trials_or_an_unknown_setting_have_no_importances(tmp_path: Path) -> None:
    record = study(tmp_path, 8)
    assert parameter_importances(msgspec.structs.replace(record, trials=record.trials[:3])) == {}
    renamed = [msgspec.structs.replace(t, parameters={"gone": t.parameters["hidden"]}) for t in record.trials]
    assert parameter_importances(msgspec.structs.replace(record, trials=tuple(renamed))) == {}
