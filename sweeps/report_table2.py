"""Table 2 of the report, by our systems: ``python sweeps/report_table2.py --seeds 0 1 2 3 4``.

``--dry-run`` says what it will cost here. The published values are those of Y. Zhang and M. Li, "Anomalous
sound detection via multitask learning and adversarial learning", technical report, DCASE 2023 Challenge.
"""

from asdbench import Counterpart
from asdbench.cli.sweep import reproduction

COLUMNS = (
    Counterpart("baseline-mse", "official baseline MSE", "Baseline AE with MSE"),
    Counterpart("baseline-maha", "official baseline MAHA", "Baseline AE with MAHA"),
    Counterpart("multitask-mel", "Zhang_DKU_task2_1", "Multitask+GMM with MelSpec."),
    Counterpart("multitask-combined", "Zhang_DKU_task2_2", "Multitask+GMM with Combined"),
    Counterpart("adversarial", "Zhang_DKU_task2_3", "Adversarial learning"),
    Counterpart("ensemble", "Zhang_DKU_task2_4", "Ensemble"),
)

if __name__ == "__main__":
    reproduction(COLUMNS, name="report_table2.py", title="Table 2", challenge="dcase2023")
