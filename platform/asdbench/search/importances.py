"""How much each parameter of a search matters for the score, by Optuna's functional ANOVA.

Source: F. Hutter, H. Hoos and K. Leyton-Brown, "An efficient approach for assessing hyperparameter
importance", ICML 2014, as `optuna.importance.FanovaImportanceEvaluator` computes it.
"""

import optuna

from asdbench import registry
from asdbench.engine.search_record import StudyRecord
from asdbench.errors import InputError
from asdbench.search.space import Space

_LEAST_TRIALS = 4  # complete ones, below which a share of variance says nothing


def parameter_importances(record: StudyRecord) -> dict[str, float]:
    """Return the share of the variance of the score that each parameter explains, the largest first.

    Parameters that some trials did not draw are left out. The result is empty for fewer than four complete
    trials, for trials of equal scores, and if the settings of the system have changed since the search.
    """
    complete = [trial for trial in record.trials if trial.state == "complete"]
    if len(complete) < _LEAST_TRIALS or len({trial.rungs[-1] for trial in complete}) == 1:
        return {}
    names = sorted(set.intersection(*(set(trial.parameters) for trial in complete)))
    try:
        configured = registry.configure(record.system, dict(record.start))
        space = Space.from_configured(configured, fixed=(), only_settings=names)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
        for trial in complete:
            drawn = {name: trial.parameters[name] for name in names}
            study.add_trial(
                optuna.trial.create_trial(
                    params=drawn, distributions=space.distributions(drawn), value=trial.rungs[-1]
                )
            )
    except (InputError, ValueError):  # a setting, or an option of it, no longer exists
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
