import pytest

from asdbench.errors import InputError
from asdbench.report.rendering import Row
from asdbench.report.row_selectors import SystemWords, label, numbered, select_rows, short_labels
from asdbench.report.stored_runs import StoredRunOptions

TUNED = {"trials": 20, "search": "abc", "protocol": "dev"}


def row(system: str, tuned: dict[str, object] | None = None, **settings: object) -> Row:
    return {"system": system, "settings": settings, "tuned": tuned, "reference": None}


ROWS = numbered(
    [
        row("baseline-mse", TUNED, epochs=30, hidden=64),
        row("official baseline MSE") | {"reference": {"source": "A paper"}},
        row("baseline-mse"),
        row("baseline-mse", epochs=30, hidden=64),
        row("baseline-maha", epochs=2),
        row("baseline-mse", epochs=30),
        row("baseline-maha", epochs=3, hidden=8),
    ]
)


@pytest.mark.parametrize(
    ("selector", "number"),
    [
        ("1", 1),
        ("#4", 4),
        (6, 6),
        ("official baseline MSE", None),
        ("baseline-mse", 2),  # exactly the default settings
        ("baseline-mse@tuned", 1),
        ("baseline-mse@epochs=30", 5),
        ("baseline-mse@epochs=30,hidden=64", 3),  # the untuned one of two with these settings
        ("baseline-mse@hidden=64,tuned,epochs=30", 1),
        ("baseline-mse@hidden=64", None),
        ("baseline-maha@epochs=3", 6),  # the only one that has it
    ],
)
def test_a_row_is_found_by_number_and_by_name(selector: str | int, number: int | None) -> None:
    if selector == "baseline-mse@hidden=64":
        with pytest.raises(InputError, match="matches 2 rows of tiny: 1 baseline-mse@tuned,epochs=30"):
            select_rows([selector], ROWS, data="tiny")
        return
    (found,) = select_rows([selector], ROWS, data="tiny")
    assert found["number"] == number


@pytest.mark.parametrize("place", range(7))
def test_the_label_of_a_row_selects_it(place: int) -> None:
    assert select_rows([label(ROWS[place])], ROWS, data="tiny") == [ROWS[place]]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("7", "the leaderboard of tiny has no row 7; its rows are 1 to 6, as 'asdbench leaderboard"),
        ("0", "has no row 0"),
        ("9" * 5000, "no row .999"),
        (
            "baseline-maha",
            "'baseline-maha' matches 2 rows of tiny: 4 baseline-maha@epochs=2; 6 baseline-maha@",
        ),
        (
            "baseline-maha@epochs=9",
            "no row of tiny matches 'baseline-maha@epochs=9'; the rows of baseline-maha",
        ),
        ("baseline-maha@tuned", "no row of tiny matches 'baseline-maha@tuned'"),
        ("baseline-mse@epoch=9", "no setting 'epoch' of baseline-mse; did you mean 'epochs'"),
        ("baseline-mse@quick", "no preset 'quick'"),
        ("baseline-mse@", "has an empty word; write it like 'system@preset,key=value'"),
        ("baseline-mse@epochs=1,epochs=2", "gives 'epochs' twice"),
        (
            "spectra-gauss",
            "no results of spectra-gauss .*run 'asdbench run spectra-gauss --data tiny --seeds 0 1 2'",
        ),
        ("official baseline MS", "no row 'official baseline MS' .*did you mean 'official baseline MSE'"),
    ],
)
def test_no_match_and_ambiguity_name_the_rows(selector: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        select_rows([selector], ROWS, data="tiny")


def test_an_empty_leaderboard_has_no_number() -> None:
    with pytest.raises(InputError, match="has no row 1; it has no rows yet"):
        select_rows([1], [], data="tiny")


def test_options_are_for_systems_that_are_given_by_name_alone() -> None:
    options = StoredRunOptions(values={"epochs": "30"})
    first, second = select_rows(["baseline-mse", 4], ROWS, data="tiny", options=options)
    assert (first["number"], second["number"]) == (5, 4)
    with pytest.raises(InputError, match="no row of tiny matches 'baseline-maha@epochs=30'"):
        select_rows(["baseline-maha"], ROWS, data="tiny", options=options)
    with pytest.raises(InputError, match=r"--preset, --set .* are for systems that are given by name alone"):
        select_rows([1, 2], ROWS, data="tiny", options=options)


def test_data_of_pseudo_anomalies_distinguish_a_row() -> None:
    rows = numbered([row("multitask-mel"), row("multitask-mel", pseudo_anomaly_data="other")])
    (by_word,) = select_rows(["multitask-mel@pseudo_anomaly_data=other"], rows, data="tiny")
    options = StoredRunOptions(pseudo_anomaly_data="other")
    (by_option,) = select_rows(["multitask-mel"], rows, data="tiny", options=options)
    assert (by_word["number"], by_option["number"]) == (2, 2)


def test_a_list_may_have_commas() -> None:
    words = SystemWords.from_text("ensemble@fast,members=a@x:b=1,c,fusion=rank,tuned")
    assert words.values == {"members": "a@x:b=1,c", "fusion": "rank"}
    assert (words.presets, words.is_tuned) == (("fast",), True)


def test_short_labels_tell_rows_of_one_system_apart() -> None:
    assert short_labels([ROWS[0], ROWS[2], ROWS[4]]) == [
        "#1 baseline-mse",
        "#2 baseline-mse",
        "baseline-maha",
    ]
