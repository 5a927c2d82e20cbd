"""The years as data: complete, consistent, and the only place that names one."""

import re
from collections import Counter
from pathlib import Path

import pytest

import asdbench
from asdbench.data.sets.challenges import CHALLENGES, Challenge, named
from asdbench.errors import InputError
from asdbench.metrics.official import IN_DOMAIN, OFFICIAL, WITHOUT_DOMAINS

YEARS = CHALLENGES.values()


def test_there_is_a_record_a_year_under_its_name() -> None:
    assert [(name, year.name, year.year) for name, year in CHALLENGES.items()] == [
        (f"dcase{number}", f"dcase{number}", number) for number in range(2020, 2027)
    ]


@pytest.mark.parametrize("year", YEARS, ids=lambda year: year.name)
def test_every_machine_type_has_its_archives_and_sections(year: Challenge) -> None:
    dev, evaluation = year.subsets["dev"], year.subsets["eval"]
    assert len(dev.records) == 1
    assert len(evaluation.records) == 2
    for subset, parts in ((dev, 1), (evaluation, 2)):
        counted = Counter(archive.machine_type for archive in subset.archives)
        assert counted == dict.fromkeys(subset.machine_types, parts)
        assert all(subset.sections.values())
        for archive in subset.archives:
            assert archive.machine_type in archive.name
            assert archive.name.endswith(".zip")
    names = [archive.name for archive in (*dev.archives, *evaluation.archives)]
    assert len(set(names)) == len(names)
    for machine in set(dev.machine_types) & set(evaluation.machine_types):
        assert not set(dev.sections[machine]) & set(evaluation.sections[machine])
    assert year.citation.startswith("@misc{")
    assert str(year.year) in year.citation


def test_what_is_known_of_the_years() -> None:
    counts = {
        year.name: tuple(len(subset.machine_types) for subset in year.subsets.values()) for year in YEARS
    }
    assert counts == {
        "dcase2020": (6, 6),
        "dcase2021": (7, 7),
        "dcase2022": (7, 7),
        "dcase2023": (7, 7),
        "dcase2024": (7, 9),
        "dcase2025": (7, 8),
        "dcase2026": (7, 5),
    }
    assert [year.rule for year in YEARS] == [WITHOUT_DOMAINS, IN_DOMAIN, *[OFFICIAL] * 5]
    assert [year.channels for year in YEARS] == [1] * 6 + [2]
    assert [year.name for year in YEARS if not year.attributes] == ["dcase2020"]
    assert named("dcase2020").subsets["dev"].sections["ToyConveyor"] == ("01", "02", "03")
    assert named("dcase2021").subsets["eval"].sections["fan"] == ("03", "04", "05")
    assert named("dcase2022").renamed_list_errors == {"ToyCar": 296, "ToyTrain": 312}


def test_archives_that_were_replaced_are_named_by_their_replacements() -> None:
    names = {
        archive.name for year in YEARS for subset in year.subsets.values() for archive in subset.archives
    }
    replaced = {name for name in names if "_r2" in name}
    assert replaced == {
        "dev_ToyCar_r2.zip",
        "eval_data_3DPrinter_train_r2.zip",
        "eval_data_RoboticArm_train_r2.zip",
    }
    records = {record for year in YEARS for subset in year.subsets.values() for record in subset.records}
    assert 11183284 not in records
    in_2026 = {archive.name for archive in named("dcase2026").subsets["dev"].archives}
    assert "dev_ToyCar.zip" not in in_2026


def test_checksums_are_of_the_years_that_have_a_table() -> None:
    known = {
        year.name: [archive.md5 for subset in year.subsets.values() for archive in subset.archives]
        for year in YEARS
    }
    for name in ("dcase2020", "dcase2023"):
        assert all(re.fullmatch("[0-9a-f]{32}", md5 or "") for md5 in known[name])
        assert len(set(known[name])) == len(known[name])
    (fan,) = [a for a in named("dcase2023").subsets["dev"].archives if a.machine_type == "fan"]
    assert (fan.record, fan.name, fan.md5) == (7882613, "dev_fan.zip", "9348591e96fb0ad499a1e33b082562fc")
    assert not any(known["dcase2021"])


def test_archives_are_chosen_by_subset_and_machine_type() -> None:
    year = named("dcase2023")
    assert len(year.archives()["eval"]) == 14
    chosen = year.archives(machine_types=["fan"])
    assert {subset: [a.name for a in archives] for subset, archives in chosen.items()} == {
        "dev": ["dev_fan.zip"]
    }
    assert set(year.archives(subsets=["eval"])) == {"eval"}
    with pytest.raises(
        InputError, match="no machine type of dcase2023 eval 'grindr'; did you mean 'grinder'"
    ):
        year.archives(subsets=["eval"], machine_types=["grindr"])
    with pytest.raises(InputError, match="no subset 'test'; there are: dev, eval"):
        year.archives(subsets=["test"])


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no challenge 'dcase23'; did you mean 'dcase2023'"):
        named("dcase23")


def test_no_other_module_branches_on_a_year() -> None:
    package = Path(asdbench.__file__).parent
    named_years = re.compile(r"[\"'(= ](?:dcase)?20(?:2[0-6])[\"') :]", re.IGNORECASE)
    for file in package.rglob("*.py"):
        if file.name == "challenges.py":
            continue
        code = re.sub(r'""".*?"""|#.*', "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not named_years.findall(code), file
