"""The challenge years of DCASE Task 2, one frozen record each. No other module names a year.

Idea
----
All differences between years are data in this module: the Zenodo records and their archives, machine types
and sections of each subset, the layout of the files, the scoring rule, and the address of the ground truth of
the evaluation subset. The rest of the project takes a `Challenge`.

Conventions
-----------
A challenge has a name such as ``dcase2023``. Its subsets are ``dev`` (development) and ``eval`` (additional
training and evaluation test data). MD5 sums are given if a published table has them; the others, and all
sizes, are requested from the record when needed. Licenses are those of the records: sources disagree (CC BY
4.0, CC BY-NC-SA 4.0), so non-commercial use is assumed.

Sources
-------
Archive names: the download lists of nttcslab/dcase2023_task2_baseline_ae. MD5 sums: soundata's tables of the
2020 and 2023 data. Sections: the baselines' machine type lists.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Never

from asdbench.data.sets.layouts import (
    DOMAIN_FOLDERS,
    MACHINE_IDS,
    SECTIONS,
    SECTIONS_WITH_SUPPLEMENT,
    TWO_MICROPHONES,
    Layout,
)
from asdbench.errors import unknown_name
from asdbench.metrics.official import IN_DOMAIN, OFFICIAL, WITHOUT_DOMAINS, Rule

_NONE: Mapping[str, Never] = MappingProxyType({})


@dataclass(frozen=True)
class Archive:
    """A zip file of a Zenodo record: the clips of one machine type, or a part of them.

    ``md5`` is its checksum in hex, or None if only the record gives it.
    """

    record: int
    name: str
    machine_type: str
    md5: str | None = None


@dataclass(frozen=True)
class Subset:
    """The development or the evaluation data of a challenge.

    Attributes
    ----------
    sections
        The sections of each machine type, as in file names.
    archives
        All archives, grouped by machine type.
    """

    sections: Mapping[str, tuple[str, ...]]
    archives: tuple[Archive, ...]

    @property
    def machine_types(self) -> tuple[str, ...]:
        """The machine types, in the order of the challenge's own lists."""
        return tuple(self.sections)

    @property
    def records(self) -> tuple[int, ...]:
        """The Zenodo records that hold the archives."""
        return tuple(dict.fromkeys(archive.record for archive in self.archives))


@dataclass(frozen=True)
class Challenge:
    """A challenge year.

    Attributes
    ----------
    name, year, task
        Name on the command line, year, and subject of the task.
    subsets
        ``"dev"`` and ``"eval"``.
    layout
        Structure of folders and file names.
    rule
        Scoring rule.
    attributes
        Whether clips have attributes.
    channels
        Number of channels of a recording.
    ground_truth
        Address at which the organizers publish the labels of the evaluation subset.
    renamed_list_errors
        Machine types for which the list of renamed evaluation clips that circulates with the baseline code
        has wrong labels, with the number of these.
    license
        License, as far as it is known without the record.
    citation
        BibTeX of the organizers' description of the task.
    """

    name: str
    year: int
    task: str
    subsets: Mapping[str, Subset]
    layout: Layout
    rule: Rule
    attributes: bool
    channels: int
    ground_truth: str
    citation: str
    renamed_list_errors: Mapping[str, int] = field(default_factory=lambda: _NONE)
    license: str = "see the record; assume non-commercial use"

    def archives(
        self, *, subsets: Iterable[str] = (), machine_types: Iterable[str] = ()
    ) -> dict[str, list[Archive]]:
        """Return the archives of the given subsets and machine types (default: all).

        Raises
        ------
        InputError
            A subset does not exist, or a machine type does not exist in the subsets.
        """
        chosen = tuple(subsets) or tuple(self.subsets)
        for subset in chosen:
            if subset not in self.subsets:
                raise unknown_name("subset", subset, self.subsets)
        requested = set(machine_types)
        known = {machine for subset in chosen for machine in self.subsets[subset].machine_types}
        for machine_type in sorted(requested - known):
            where = f"machine type of {self.name}" + (f" {chosen[0]}" if len(chosen) == 1 else "")
            raise unknown_name(where, machine_type, known)
        selected = {
            subset: [a for a in self.subsets[subset].archives if not requested or a.machine_type in requested]
            for subset in chosen
        }
        return {subset: archives for subset, archives in selected.items() if archives}


def named(name: str) -> Challenge:
    """Return the challenge ``name``; raise :class:`InputError` if there is none.

    Examples
    --------
    >>> named("dcase2023").subsets["eval"].machine_types[:2]
    ('bandsaw', 'grinder')
    """
    if name not in CHALLENGES:
        raise unknown_name("challenge", name, CHALLENGES)
    return CHALLENGES[name]


def rule_of(data: str, *, layout: str | None = None, domains: bool = True) -> Rule:
    """Return the scoring rule of a data set.

    Parameters
    ----------
    data
        Name of the data set; the name of a challenge implies the challenge's rule.
    layout
        Name of its layout. For other names, test clips in folders of their domain are ranked within that
        domain, as in the challenge with that layout.
    domains
        Whether the domain of any clip is known.
    """
    if data in CHALLENGES:
        return CHALLENGES[data].rule
    if not domains:
        return WITHOUT_DOMAINS
    return IN_DOMAIN if layout == DOMAIN_FOLDERS.name else OFFICIAL


def version_of(data: str) -> str | None:
    """Return which published version a data set of this name is; ``None`` for one of no challenge.

    >>> version_of("dcase2023")
    'DCASE 2023 Task 2, Zenodo records 7882613, 7830345, 7860847'
    """
    if data not in CHALLENGES:
        return None
    records = [record for subset in CHALLENGES[data].subsets.values() for record in subset.records]
    return (
        f"DCASE {CHALLENGES[data].year} Task 2, Zenodo records {', '.join(map(str, dict.fromkeys(records)))}"
    )


def _subset(
    records: Mapping[int, str],
    machine_types: str | Mapping[str, str],
    *,
    sections: str = "00",
    renamed: Mapping[str, str] = _NONE,
    md5: Mapping[str, str] = _NONE,
) -> Subset:
    """Return the subset with the given records.

    ``records`` maps a record to a pattern with ``{}`` for the machine type, ``renamed`` the name that the
    pattern gives to the one that replaced it, ``machine_types`` is a list in words, or maps such lists to
    their sections.
    """
    groups = {machine_types: sections} if isinstance(machine_types, str) else machine_types
    of_type = {machine: tuple(names.split()) for words, names in groups.items() for machine in words.split()}
    archives = []
    for machine in of_type:
        for record, pattern in records.items():
            name = renamed.get(pattern.format(machine), pattern.format(machine))
            archives.append(Archive(record, name, machine, md5.get(name)))
    return Subset(MappingProxyType(of_type), tuple(archives))


def _arxiv(key: str, authors: str, title: str, number: str, year: int) -> str:
    """Return the BibTeX of a preprint."""
    return (
        f"@misc{{{key}, author={{{authors}}}, title={{{{{title}}}}}, "
        f"eprint={{{number}}}, archivePrefix={{arXiv}}, year={{{year}}}}}"
    )


_DISCUSSION = "Description and Discussion on DCASE {} Challenge Task 2: {}"
_UNSUPERVISED = "Unsupervised Anomalous Sound Detection for Machine Condition Monitoring"
_FIRST_SHOT = "First-Shot Unsupervised Anomalous Sound Detection for Machine Condition Monitoring"

_MD5_2020 = {
    "dev_data_fan.zip": "649bdfc06263ae7a838963f43b6641e6",
    "dev_data_pump.zip": "90e7091ef722b7238a7f1009365779cd",
    "dev_data_slider.zip": "da24a757719f0d94d5aa2d646bbfdc86",
    "dev_data_ToyCar.zip": "4dec75ca8d9f666aa9e4c1894a740501",
    "dev_data_ToyConveyor.zip": "03b6aa1bfd09a39d53af0ba39f71fa91",
    "dev_data_valve.zip": "34d2672f55bb041589ef79c10dc89934",
    "eval_data_train_fan.zip": "567798854130c8019df8b664c095ed1e",
    "eval_data_train_pump.zip": "4e33ae9c0db5cc88437675f5e317caee",
    "eval_data_train_slider.zip": "f84f186f4295fc23754abcdd1b0580a7",
    "eval_data_train_ToyCar.zip": "a5d4ccd498af70b04dd74b644b820006",
    "eval_data_train_ToyConveyor.zip": "0e808ac0b761e9fb13d5e0c65caff00d",
    "eval_data_train_valve.zip": "057cdd560caffb8305449541afd28c6d",
    "eval_data_test_fan.zip": "1eb9356a768cadfd0f2e59a5c57e578b",
    "eval_data_test_pump.zip": "23a8f8f924be218c69df67fe07360348",
    "eval_data_test_slider.zip": "0193c769073840332ce3aad84b1ccaa2",
    "eval_data_test_ToyCar.zip": "bea2bdd612f616be8f2b8eb087b32c7c",
    "eval_data_test_ToyConveyor.zip": "ccfcc9847c7d3404d7ee9d6d9e0b2ba2",
    "eval_data_test_valve.zip": "f69c551d2088691050d20cccca9d631c",
}
_MD5_2023 = {
    "dev_bearing.zip": "8a813bc8d8f156b5395bfccdfac7673c",
    "dev_fan.zip": "9348591e96fb0ad499a1e33b082562fc",
    "dev_gearbox.zip": "b6e55f6a31faa0fc8569ec0afdd53ccf",
    "dev_slider.zip": "b3f8dee36b4718c36d659a4fd1c4afe0",
    "dev_ToyCar.zip": "4e3bf15f4101ed4ed4f1fecde2e2b2a3",
    "dev_ToyTrain.zip": "6b02a6c65eebb3b8b1ae59a6b25bb897",
    "dev_valve.zip": "b2051a2022eadb53cd97581120811cae",
    "eval_data_bandsaw_train.zip": "9274dfe63de028743823f1123f8b4b47",
    "eval_data_grinder_train.zip": "17569c1f9df23621a0dbabc430684a35",
    "eval_data_shaker_train.zip": "35f821b5645b731fb5a1750e33b95fc3",
    "eval_data_ToyDrone_train.zip": "7fea367d1384a1521ae24f72203238de",
    "eval_data_ToyNscale_train.zip": "9332822f3e47afd984c01f2ecb5ca3af",
    "eval_data_ToyTank_train.zip": "b1fd3ab7de7561290df2d477de1c9d33",
    "eval_data_Vacuum_train.zip": "1c8de33d9a8c7850a1f7aaddb97d87be",
    "eval_data_bandsaw_test.zip": "2a8e8f39f6584ab366a8f4da52d4d7a6",
    "eval_data_grinder_test.zip": "631b3e1608b6077772829a6e68c82c77",
    "eval_data_shaker_test.zip": "ba98c98caa96051ec80e24e44b8fca56",
    "eval_data_ToyDrone_test.zip": "fdae7b8d1f4cadb2bea88bc93e2367db",
    "eval_data_ToyNscale_test.zip": "62f5f5043d8fb3a305b1c2e1025872de",
    "eval_data_ToyTank_test.zip": "f5639bf58c47169c622751f19c6fc321",
    "eval_data_Vacuum_test.zip": "a32524fd8c45b574a560685b38acc4e1",
}

_YEARS = (
    Challenge(
        name="dcase2020",
        year=2020,
        task="unsupervised",
        subsets=MappingProxyType(
            {
                "dev": _subset(
                    {3678171: "dev_data_{}.zip"},
                    {
                        "fan pump slider valve": "00 02 04 06",
                        "ToyCar": "01 02 03 04",
                        "ToyConveyor": "01 02 03",
                    },
                    md5=_MD5_2020,
                ),
                "eval": _subset(
                    {3727685: "eval_data_train_{}.zip", 3841772: "eval_data_test_{}.zip"},
                    {"fan pump slider valve": "01 03 05", "ToyCar": "05 06 07", "ToyConveyor": "04 05 06"},
                    md5=_MD5_2020,
                ),
            }
        ),
        layout=MACHINE_IDS,
        rule=WITHOUT_DOMAINS,
        attributes=False,
        channels=1,
        ground_truth="https://zenodo.org/records/3951620",
        citation=_arxiv(
            "Koizumi2020",
            "Koizumi, Yuma and others",
            _DISCUSSION.format(2020, _UNSUPERVISED),
            "2006.05822",
            2020,
        ),
    ),
    Challenge(
        name="dcase2021",
        year=2021,
        task="domain shift",
        subsets=MappingProxyType(
            {
                "dev": _subset(
                    {4562016: "dev_data_{}.zip"},
                    "fan gearbox pump slider ToyCar ToyTrain valve",
                    sections="00 01 02",
                ),
                "eval": _subset(
                    {4660992: "eval_data_{}_train.zip", 4884786: "eval_data_{}_test.zip"},
                    "fan gearbox pump slider ToyCar ToyTrain valve",
                    sections="03 04 05",
                ),
            }
        ),
        layout=DOMAIN_FOLDERS,
        rule=IN_DOMAIN,
        attributes=True,
        channels=1,
        ground_truth="https://github.com/y-kawagu/dcase2021_task2_evaluator",
        citation=_arxiv(
            "Kawaguchi2021",
            "Kawaguchi, Yohei and others",
            _DISCUSSION.format(2021, f"{_UNSUPERVISED} under Domain Shifted Conditions"),
            "2106.04492",
            2021,
        ),
    ),
    Challenge(
        name="dcase2022",
        year=2022,
        task="domain generalization",
        subsets=MappingProxyType(
            {
                "dev": _subset(
                    {6355122: "dev_{}.zip"},
                    "bearing fan gearbox slider ToyCar ToyTrain valve",
                    sections="00 01 02",
                ),
                "eval": _subset(
                    {6462969: "eval_data_{}_train.zip", 6586456: "eval_data_{}_test.zip"},
                    "bearing fan gearbox slider ToyCar ToyTrain valve",
                    sections="03 04 05",
                ),
            }
        ),
        layout=SECTIONS,
        rule=OFFICIAL,
        attributes=True,
        channels=1,
        ground_truth="https://github.com/Kota-Dohi/dcase2022_evaluator",
        renamed_list_errors=MappingProxyType({"ToyCar": 296, "ToyTrain": 312}),
        citation=_arxiv(
            "Dohi2022",
            "Dohi, Kota and others",
            _DISCUSSION.format(2022, f"{_UNSUPERVISED} Applying Domain Generalization Techniques"),
            "2206.05876",
            2022,
        ),
    ),
    Challenge(
        name="dcase2023",
        year=2023,
        task="first-shot",
        subsets=MappingProxyType(
            {
                "dev": _subset(
                    {7882613: "dev_{}.zip"},
                    "bearing fan gearbox slider ToyCar ToyTrain valve",
                    md5=_MD5_2023,
                ),
                "eval": _subset(
                    {7830345: "eval_data_{}_train.zip", 7860847: "eval_data_{}_test.zip"},
                    "bandsaw grinder shaker ToyDrone ToyNscale ToyTank Vacuum",
                    md5=_MD5_2023,
                ),
            }
        ),
        layout=SECTIONS,
        rule=OFFICIAL,
        attributes=True,
        channels=1,
        ground_truth="https://github.com/nttcslab/dcase2023_task2_evaluator",
        citation=_arxiv(
            "Dohi2023",
            "Dohi, Kota and others",
            _DISCUSSION.format(2023, _FIRST_SHOT),
            "2305.07828",
            2023,
        ),
    ),
    Challenge(
        name="dcase2024",
        year=2024,
        task="first-shot",
        subsets=MappingProxyType(
            {
                "dev": _subset({10902294: "dev_{}.zip"}, "bearing fan gearbox slider ToyCar ToyTrain valve"),
                "eval": _subset(
                    {11259435: "eval_data_{}_train.zip", 11363076: "eval_data_{}_test.zip"},
                    "3DPrinter AirCompressor BrushlessMotor HairDryer HoveringDrone RoboticArm Scanner"
                    " ToothBrush ToyCircuit",
                    renamed={
                        "eval_data_3DPrinter_train.zip": "eval_data_3DPrinter_train_r2.zip",
                        "eval_data_RoboticArm_train.zip": "eval_data_RoboticArm_train_r2.zip",
                    },
                ),
            }
        ),
        layout=SECTIONS,
        rule=OFFICIAL,
        attributes=True,
        channels=1,
        ground_truth="https://github.com/nttcslab/dcase2024_task2_evaluator",
        citation=_arxiv(
            "Nishida2024",
            "Nishida, Tomoya and others",
            _DISCUSSION.format(2024, _FIRST_SHOT),
            "2406.07250",
            2024,
        ),
    ),
    Challenge(
        name="dcase2025",
        year=2025,
        task="first-shot",
        subsets=MappingProxyType(
            {
                "dev": _subset({15097779: "dev_{}.zip"}, "bearing fan gearbox slider ToyCar ToyTrain valve"),
                "eval": _subset(
                    {15392814: "eval_data_{}_train.zip", 15519362: "eval_data_{}_test.zip"},
                    "AutoTrash BandSealer CoffeeGrinder HomeCamera Polisher ScrewFeeder ToyPet ToyRCCar",
                ),
            }
        ),
        layout=SECTIONS_WITH_SUPPLEMENT,
        rule=OFFICIAL,
        attributes=True,
        channels=1,
        ground_truth="https://github.com/nttcslab/dcase2025_task2_evaluator",
        citation=_arxiv(
            "Nishida2025",
            "Nishida, Tomoya and others",
            _DISCUSSION.format(2025, _FIRST_SHOT),
            "2506.10097",
            2025,
        ),
    ),
    Challenge(
        name="dcase2026",
        year=2026,
        task="noise-aware",
        subsets=MappingProxyType(
            {
                "dev": _subset(
                    {19336329: "dev_{}.zip"},
                    "bearingEmu fan gearboxEmu sliderEmu ToyCar ToyCarEmu valveEmu",
                    renamed={"dev_ToyCar.zip": "dev_ToyCar_r2.zip"},
                ),
                "eval": _subset(
                    {20151556: "eval_data_{}_train.zip", 20437238: "eval_data_{}_test.zip"},
                    "BlowerDustCollector Sander SewingMachine ToothBrush ToyDrone",
                ),
            }
        ),
        layout=TWO_MICROPHONES,
        rule=OFFICIAL,
        attributes=True,
        channels=2,
        ground_truth="https://github.com/nttcslab/dcase2026_task2_evaluator",
        citation=_arxiv(
            "Nishida2026",
            "Nishida, Tomoya and others",
            _DISCUSSION.format(2026, f"Noise-aware {_UNSUPERVISED}"),
            "2606.01578",
            2026,
        ),
    ),
)

CHALLENGES: Mapping[str, Challenge] = MappingProxyType({challenge.name: challenge for challenge in _YEARS})
"""Every challenge year by name, oldest first."""
