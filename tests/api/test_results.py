"""The types of results are public names."""

import asdbench
from asdbench.api import results


def test_every_result_type_is_public_and_reports_have_every_form() -> None:
    for name in results.__all__:
        assert getattr(asdbench, name) is getattr(results, name)
    for report in (asdbench.Leaderboard, asdbench.RunResult, asdbench.Scores, asdbench.Comparison):
        for form in ("frame", "to_json", "to_markdown", "_repr_html_"):
            assert hasattr(report, form)
