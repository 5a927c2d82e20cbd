"""Miniatures: every layout of the challenge as a small folder, true to its names, with its ground truth.

Idea
----
A :class:`Miniature` is what a layout leaves open: machine types, sections, attributes, and how the
organizers publish the labels of the evaluation subset. ``write_miniature`` writes ``data/dev_data/``,
``data/eval_data/`` and, apart from them, ``evaluator/`` with the ground truth. Sounds are those of ``tiny``.

Conventions
-----------
Numbers of evaluation clips are dealt at random, so that a number says nothing. What the real data sets have
of oddities is here too: clip numbers of toys begin at 1, a value of an attribute occurs in target test clips
only, a name joins what the attribute CSV keeps apart, target training clips go on counting from the source
clips, names end in a bare ``_``.

Known departures
----------------
Two sections where the challenge has three, a dozen training clips a machine type. The ground truth of
attributes is not written. No source gives the name of a supplemental clip of noise; it is made up here.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from asdbench.data.sets.layouts import (
    DOMAIN_FOLDERS,
    MACHINE_IDS,
    SECTIONS,
    SECTIONS_WITH_SUPPLEMENT,
    SUBSET_FOLDERS,
    TWO_MICROPHONES,
    Layout,
)
from asdbench.spec import SAMPLE_RATE_HZ
from asdbench.testing.tiny import tone

Attributes = tuple[tuple[str, str], ...]

_SUBSET_FOLDER = {subset: folder for folder, subset in SUBSET_FOLDERS.items()}

SOURCE_CLIPS, TARGET_CLIPS, TEST_CLIPS_PER_CELL, SUPPLEMENTAL_CLIPS = 12, 2, 2, 3
"""Of a machine type in a subset: training clips by domain, test clips of a section's cell, supplement."""


@dataclass(frozen=True)
class MachineType:
    """A machine type of a miniature.

    Attributes
    ----------
    name
        Its name.
    source, target
        Attributes of the clips of each domain, taken in turn.
    target_test
        Attributes that only target test clips have, beside those of ``target``.
    first_number
        Number of the first clip.
    joined
        Names write an attribute's name and value as one word.
    target_goes_on
        Target training clips are numbered after the source training clips.
    """

    name: str
    source: Sequence[Attributes] = ((),)
    target: Sequence[Attributes] = ((),)
    target_test: Sequence[Attributes] = ()
    first_number: int = 0
    joined: bool = False
    target_goes_on: bool = False


@dataclass(frozen=True)
class Miniature:
    """What a miniature holds; ``types`` and ``sections`` are by subset.

    ``ground_truth`` is the organizers' format: files for data and domain (``"sections"``), a file a domain
    (``"domains"``), or one list (``"list"``). ``stereo`` clips have a far microphone right.
    """

    layout: Layout
    types: Mapping[str, tuple[MachineType, ...]]
    sections: Mapping[str, tuple[str, ...]]
    ground_truth: Literal["sections", "domains", "list"] = "sections"
    stereo: bool = False
    bare_end: bool = False


@dataclass(frozen=True)
class MiniatureClip:
    """A clip that was written, and all that is true of it; ``path`` is relative to the data folder.

    ``anomalous`` is None for supplemental clips; where a layout has no domains, ``domain`` is None.
    """

    path: str
    machine_type: str
    section: str
    subset: str
    split: str
    domain: str | None
    anomalous: bool | None
    attributes: Attributes


@dataclass(frozen=True)
class Written:
    """What was written: the folder of the recordings, that of the ground truth, and every clip."""

    data: Path
    ground_truth: Path
    clips: tuple[MiniatureClip, ...]


_CARS = tuple((("car", car), ("spd", spd), ("mic", "1")) for car in ("A1", "B2") for spd in ("28V", "31V"))
_CAR = MachineType("ToyCar", _CARS, ((("car", "C1"), ("spd", "40V"), ("mic", "2")),), first_number=1)
_FAN = MachineType("fan", ((("m-n", "W"),), (("m-n", "X"),)), ((("m-n", "Y"),),), ((("m-n", "Z"),),))
_TANK = MachineType("ToyTank", ((("car", "A"), ("mic", "1")), (("car", "B"), ("mic", "1"))), _CARS[:1])
_SAW = MachineType("bandsaw", ((("vel", "1"),), (("vel", "2"),)), ((("vel", "3"),),))
_CONDITIONS = (
    MachineType("ToyCar", ((("condition", "A1_28V"),), (("condition", "A1_31V"),)), first_number=1),
    MachineType(
        "fan",
        ((("condition", "strength_1_ambient"),), (("condition", "serial_no_030_water"),)),
        ((("condition", "strength_2_ambient"),),),
    ),
)
_PLAIN = (MachineType("ToyCar"), MachineType("fan"))
_ONE_SECTION = {"dev": ("00",), "eval": ("00",)}
_NEW_SECTIONS = {"dev": ("00", "01"), "eval": ("03", "04")}
_NEW_TYPES = {"dev": (_CAR, _FAN), "eval": (_TANK, _SAW)}

MINIATURES = {
    "machine ids": Miniature(
        MACHINE_IDS,
        {"dev": _PLAIN, "eval": _PLAIN},
        {"dev": ("00", "02"), "eval": ("01", "03")},
        ground_truth="list",
    ),
    "domain folders": Miniature(
        DOMAIN_FOLDERS, {"dev": _CONDITIONS, "eval": _CONDITIONS}, _NEW_SECTIONS, ground_truth="domains"
    ),
    "several sections": Miniature(SECTIONS, {"dev": (_CAR, _FAN), "eval": (_CAR, _FAN)}, _NEW_SECTIONS),
    "first shot": Miniature(SECTIONS, _NEW_TYPES, _ONE_SECTION),
    "no attributes": Miniature(
        SECTIONS,
        {
            "dev": (_CAR, MachineType("gearbox")),
            "eval": (
                MachineType("BrushlessMotor", target_goes_on=True),
                MachineType(
                    "RoboticArm",
                    ((("weight", "00"), ("Bckg", "A")), (("weight", "10"), ("Bckg", "A"))),
                    ((("weight", "35"), ("Bckg", "G")),),
                    joined=True,
                    target_goes_on=True,
                ),
            ),
        },
        _ONE_SECTION,
    ),
    "supplement": Miniature(SECTIONS_WITH_SUPPLEMENT, _NEW_TYPES, _ONE_SECTION),
    "two microphones": Miniature(TWO_MICROPHONES, _NEW_TYPES, _ONE_SECTION, stereo=True, bare_end=True),
}
"""All miniatures, by what they are."""


def write_miniature(folder: Path, miniature: Miniature, *, seed: int = 0) -> Written:
    """Write a miniature to ``folder/data`` and its ground truth to ``folder/evaluator``.

    Parameters
    ----------
    folder
        Is created if it is not there.
    miniature
        One of ``MINIATURES``, or another.
    seed
        Of sounds and of the numbers of evaluation clips; the same seed writes the same samples.
    """
    numbering = np.random.default_rng([seed])
    clips = tuple(
        clip
        for subset, types in miniature.types.items()
        for machine in types
        for section in miniature.sections[subset]
        for clip in (
            *_training_clips(miniature, subset, machine, section),
            *_test_clips(miniature, subset, machine, section, numbering),
            *_supplemental_clips(miniature, subset, machine, section),
        )
    )
    data, ground_truth = folder / "data", folder / "evaluator"
    for number, clip in enumerate(clips):
        (data / clip.path).parent.mkdir(parents=True, exist_ok=True)
        wave = _sound(clip, np.random.default_rng([seed, number]), stereo=miniature.stereo)
        soundfile.write(data / clip.path, wave, SAMPLE_RATE_HZ, subtype="PCM_16")
    if miniature.layout.attributes == "pairs":
        _write_attributes(data, clips)
    hidden = [clip for clip in clips if clip.subset == "eval" and clip.split == "test"]
    _GROUND_TRUTH[miniature.ground_truth](ground_truth, hidden)
    return Written(data, ground_truth, clips)


def _domains(miniature: Miniature) -> tuple[str | None, ...]:
    return (None,) if miniature.layout.names == "machine id" else ("source", "target")


def _training_clips(
    miniature: Miniature, subset: str, machine: MachineType, section: str
) -> Iterator[MiniatureClip]:
    sections = len(miniature.sections[subset])
    for domain in _domains(miniature):
        count = (TARGET_CLIPS if domain == "target" else SOURCE_CLIPS) // sections
        values = machine.target if domain == "target" else machine.source
        first = machine.first_number
        if domain == "target" and machine.target_goes_on:
            first += SOURCE_CLIPS // sections
        for place in range(count):
            attributes = values[place % len(values)]
            name = _name(miniature, machine, (section, domain, "train", "normal"), first + place, attributes)
            path = f"{_SUBSET_FOLDER[subset]}/{machine.name}/train/{name}"
            yield MiniatureClip(path, machine.name, section, subset, "train", domain, False, attributes)


def _test_clips(
    miniature: Miniature, subset: str, machine: MachineType, section: str, numbering: np.random.Generator
) -> Iterator[MiniatureClip]:
    cells = [(domain, label) for domain in _domains(miniature) for label in ("normal", "anomaly")]
    numbers = iter(numbering.permutation(len(cells) * TEST_CLIPS_PER_CELL))
    for domain, label in cells:
        values = (*machine.target, *machine.target_test) if domain == "target" else machine.source
        folder = next(f for f in miniature.layout.folders if f.split == "test" and f.domain in (None, domain))
        for place in range(TEST_CLIPS_PER_CELL):
            attributes = values[place % len(values)] if miniature.layout.attributes == "pairs" else ()
            if subset == "eval":
                name = _hidden_name(miniature, section, domain, int(next(numbers)))
                attributes = ()
            else:
                number = machine.first_number + place
                name = _name(miniature, machine, (section, domain, "test", label), number, attributes)
            path = f"{_SUBSET_FOLDER[subset]}/{machine.name}/{folder.name}/{name}"
            anomalous = label == "anomaly"
            yield MiniatureClip(path, machine.name, section, subset, "test", domain, anomalous, attributes)


def _supplemental_clips(
    miniature: Miniature, subset: str, machine: MachineType, section: str
) -> Iterator[MiniatureClip]:
    if not any(folder.split == "supplemental" for folder in miniature.layout.folders):
        return
    kind = "noise" if machine is miniature.types[subset][-1] else "machine"
    for number in range(1, SUPPLEMENTAL_CLIPS + 1):
        name = f"section_{section}_{kind}_{number:04d}_.wav"
        path = f"{_SUBSET_FOLDER[subset]}/{machine.name}/supplemental/{name}"
        told = (("sound", kind),)
        yield MiniatureClip(path, machine.name, section, subset, "supplemental", None, None, told)


def _name(
    miniature: Miniature,
    machine: MachineType,
    cell: tuple[str, str | None, str, str],
    number: int,
    attributes: Attributes,
) -> str:
    """Return the file name of a clip whose name tells all: ``cell`` is section, domain, split, label."""
    section, domain, split, label = cell
    if miniature.layout.names == "machine id":
        return f"{label}_id_{section}_{number:08d}.wav"
    words = [f"section_{section}_{domain}_{split}_{label}_{number:04d}"]
    if miniature.layout.attributes == "text":
        words += [value for _, value in attributes]
    else:
        joint = "" if machine.joined else "_"
        words += [f"{name}{joint}{value}" for name, value in attributes] or ["noAttribute"]
    return "_".join(words) + ("_.wav" if miniature.bare_end else ".wav")


def _hidden_name(miniature: Miniature, section: str, domain: str | None, number: int) -> str:
    """Return the file name of an evaluation clip."""
    if miniature.layout.names == "machine id":
        return f"id_{section}_{number:08d}.wav"
    told = f"_{domain}_test" if miniature.ground_truth == "domains" else ""
    return f"section_{section}{told}_{number:04d}.wav"


def _sound(clip: MiniatureClip, generator: np.random.Generator, *, stereo: bool) -> NDArray[np.float64]:
    """Return samples (sample,), or (sample, channel): near microphone left, far microphone right."""
    noise_only = clip.attributes == (("sound", "noise"),)
    wave = tone(
        generator,
        pitch_hz=300.0
        + 40 * len(clip.machine_type)
        + 25 * int(clip.section)
        + 10 * (clip.domain == "target"),
        overtone=2.7 if clip.anomalous else 2.0,
        noise=0.05 if clip.domain == "target" else 0.02,
        duration_s=generator.uniform(0.6, 0.9),
    )
    if noise_only:
        return np.clip(generator.normal(0.0, 0.1, len(wave)), -1.0, 1.0)
    if not stereo:
        return wave
    far = np.clip(0.3 * wave + generator.normal(0.0, 0.05, len(wave)), -1.0, 1.0)
    return np.stack([wave, far], axis=1)


def _write_attributes(data: Path, clips: Iterable[MiniatureClip]) -> None:
    """Write a table for each section: labeled clips, as ``<machine type>/<folder>/<file>``."""
    tables: dict[Path, list[MiniatureClip]] = {}
    for clip in clips:
        if clip.split == "train" or (clip.split == "test" and clip.subset == "dev"):
            machine = data / Path(clip.path).parts[0] / clip.machine_type
            tables.setdefault(machine / f"attributes_{clip.section}.csv", []).append(clip)
    for table, listed in tables.items():
        pairs = max(1, *(len(clip.attributes) for clip in listed))
        rows = [["file_name", *(f"d{k + 1}{part}" for k in range(pairs) for part in "pv")]]
        for clip in listed:
            told = [word for pair in clip.attributes or (("noAttribute", ""),) for word in pair]
            rows.append([clip.path.partition("/")[2], *told, *[""] * (2 * pairs - len(told))])
        _write_csv(table, rows)


def _truth_of_sections(folder: Path, hidden: Iterable[MiniatureClip]) -> None:
    """Write ``ground_truth_{data,domain}/ground_truth_<M>_section_NN_test.csv``."""
    for kind in ("data", "domain"):
        files: dict[str, list[list[str]]] = {}
        for clip in sorted(hidden, key=lambda clip: clip.path):
            told = clip.anomalous if kind == "data" else clip.domain == "target"
            name = f"ground_truth_{clip.machine_type}_section_{clip.section}_test.csv"
            files.setdefault(name, []).append([Path(clip.path).name, str(int(bool(told)))])
        for name, rows in files.items():
            _write_csv(folder / f"ground_truth_{kind}" / name, rows)


def _truth_of_domains(folder: Path, hidden: Iterable[MiniatureClip]) -> None:
    """Write ``ground_truth_data/ground_truth_<M>_section_NN_{source|target}_test.csv``."""
    files: dict[str, list[list[str]]] = {}
    for clip in sorted(hidden, key=lambda clip: clip.path):
        name = f"ground_truth_{clip.machine_type}_section_{clip.section}_{clip.domain}_test.csv"
        files.setdefault(name, []).append([Path(clip.path).name, str(int(bool(clip.anomalous)))])
    for name, rows in files.items():
        _write_csv(folder / "ground_truth_data" / name, rows)


def _truth_list(folder: Path, hidden: Iterable[MiniatureClip]) -> None:
    """Write ``eval_data_list.csv``: a machine type, then (name, name with label, label) of its clips."""
    rows: list[list[str]] = []
    for clip in sorted(hidden, key=lambda clip: clip.path):
        if [clip.machine_type] not in rows:
            rows.append([clip.machine_type])
        name = Path(clip.path).name
        label = "anomaly" if clip.anomalous else "normal"
        rows.append([name, f"{label}_{name}", str(int(bool(clip.anomalous)))])
    _write_csv(folder / "eval_data_list.csv", rows)


_GROUND_TRUTH = {"sections": _truth_of_sections, "domains": _truth_of_domains, "list": _truth_list}


def _write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as table:
        csv.writer(table).writerows(rows)
