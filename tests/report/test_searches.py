import msgspec

from asdbench.engine.search_record import FusionReport, LeftOutReport, NestedReport
from asdbench.report.rendering import to_markdown
from asdbench.report.searches import FreshRow, fresh_table, fusion_table, left_out_table

REPORT = FusionReport(
    members=("a", "b"),
    weights=(0.25, 0.75),
    choices={"mode": "rank"},
    score=0.7,
    member_trials=0,
    weight_vectors=300,
    equal_weights=0.6,
    leave_one_type_out=0.55,
    left_out={"fan": LeftOutReport((0.1, 0.9), 0.65), "valve": LeftOutReport((0.2, 0.8), 0.5)},
)


def test_a_fusion_shows_the_weights_found_next_to_equal_ones_and_those_without_a_type() -> None:
    lines = to_markdown(fusion_table("ensemble", REPORT)).splitlines()
    assert lines[0] == "**Weights of ensemble (mode=rank)**"
    assert lines[2:9] == [
        "|  | a | b | official score |",
        "| :-- | --: | --: | --: |",
        "| equal | 0.500 | 0.500 | 60.00 |",
        "| found | 0.250 | 0.750 | 70.00 |",
        "| without fan | 0.100 | 0.900 | 65.00 |",
        "| without valve | 0.200 | 0.800 | 50.00 |",
        "| left out, all |  |  | 55.00 |",
    ]
    sections = [row.begins_section for row in fusion_table("ensemble", REPORT).rows]
    assert sections == [False, False, True, False, False]


def test_a_fusion_that_left_no_type_out_has_two_rows() -> None:
    report = msgspec.structs.replace(REPORT, left_out={}, leave_one_type_out=None)
    assert len(fusion_table("ensemble", report).rows) == 2


def test_tuning_is_shown_on_the_types_left_out() -> None:
    rows = [("fan", 0.5, 0.6, {"epochs": 30, "rate": 0.00123456}), ("valve", 0.7, 0.7, {})]
    lines = to_markdown(left_out_table("t", rows, untuned=0.6, tuned=0.65, seeds=[1, 2])).splitlines()
    assert lines[4:7] == [
        "| fan | 50.00 | 60.00 | epochs=30 rate=0.001235 |",
        "| valve | 70.00 | 70.00 | unchanged |",
        "| all | 60.00 | 65.00 |  |",
    ]


def test_tuned_members_are_shown_without_what_their_labels_chose() -> None:
    reason = "There is no estimate; 'asdbench tune' gives one."
    report = msgspec.structs.replace(
        REPORT,
        member_trials=40,
        equal_weights=None,
        leave_one_type_out=None,
        left_out={},
        without_estimate=reason,
    )
    table = fusion_table("ensemble", report)
    assert [row.cells[0] for row in table.rows] == ["found"]
    assert "300 weight vectors evaluated; members tuned in 40 trials." in to_markdown(table)
    assert reason in to_markdown(table)
    nested = NestedReport(
        score=0.52, equal_weights=0.51, left_out={"fan": LeftOutReport((0.4, 0.6), 0.53)}, seeds=(3, 4)
    )
    table = fusion_table("ensemble", msgspec.structs.replace(report, nested=nested, without_estimate=None))
    assert to_markdown(table).splitlines()[4:8] == [
        "| found | 0.250 | 0.750 | 70.00 |",
        "| without fan, tuned too | 0.400 | 0.600 | 53.00 |",
        "| left out, all, tuned too |  |  | 52.00 |",
        "| equal, left out, all, tuned too | 0.500 | 0.500 | 51.00 |",
    ]
    assert "what lasts on an unseen one; with seeds 3, 4." in to_markdown(table)


def test_members_whose_authors_saw_the_labels_are_named() -> None:
    report = msgspec.structs.replace(REPORT, chosen_on_labels=("b",))
    assert "No machine type is unseen to b, whose authors" in to_markdown(fusion_table("ensemble", report))


def test_scores_with_fresh_seeds_stand_next_to_those_in_the_search() -> None:
    rows = [
        FreshRow("found", {"epochs": 30}, 0.72, [0.66, 0.68]),
        FreshRow("runner-up", {"epochs": 60}, 0.71, [0.67, 0.69]),
        FreshRow("untuned", {}, None, []),
    ]
    table = fresh_table("t", rows, seeds=[1, 2], searched_seeds=[0], is_surpassed=True)
    text = to_markdown(table)
    assert text.splitlines()[4:7] == [
        "| found | epochs=30 | 72.00 | 67.00 ± 1.41 |",
        "| runner-up | epochs=60 | 71.00 | 68.00 ± 1.41 |",
        "| untuned | unchanged | – | – |",
    ]
    assert "In the search: with seed 0. Fresh seeds: the mean with seeds 1, 2" in text
    assert "A runner-up is higher with the fresh seeds" in text
