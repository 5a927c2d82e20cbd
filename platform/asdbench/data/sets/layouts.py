"""Layouts: the structure of a data set's folders and file names.

Idea
----
Every layout is read into the same clip table. A layout gives the folders of clips in a machine type's folder,
the grammar of file names and the form of attributes in them; the grammars are in ``filenames``. Layouts are
named by their structure, so that several data sets can share one.

Conventions
-----------
A data set is a folder of machine types, or a folder that contains ``dev_data/``, ``eval_data/`` or both, each
of them a folder of machine types. ``SUBSET_FOLDERS`` maps these to the subset of their clips.

Source
------
The README files of the DCASE Task 2 baselines (nttcslab/dcase2023_task2_baseline_ae and those before it) and
file lists of the data sets.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from asdbench.data.audio import ChannelPolicy
from asdbench.errors import InputError, unknown_name

SPLITS = ("train", "test", "supplemental")
SUBSETS = ("dev", "eval")
SUBSET_FOLDERS = {"dev_data": "dev", "eval_data": "eval"}
AUDIO_SUFFIXES = (".wav", ".flac")

_MACHINE_ID_NAME = re.compile(r"(?:(?:normal|anomaly)_)?id_[0-9]")


@dataclass(frozen=True)
class ClipFolder:
    """A folder of clips in a machine type's folder: name, split, and the domain if all clips share one."""

    name: str
    split: Literal["train", "test", "supplemental"]
    domain: Literal["source", "target"] | None = None


_TRAIN_AND_TEST = (ClipFolder("train", "train"), ClipFolder("test", "test"))


@dataclass(frozen=True)
class Layout:
    """The structure of a data set's folders and file names.

    Attributes
    ----------
    name
        Name on the command line.
    names
        The grammar of file names: ``"section"`` (``section_00_source_train_normal_0000_...``) or
        ``"machine id"`` (``normal_id_00_00000000``), where an id becomes a section and there is no domain.
    attributes
        Part of a name after the number: alternating names and values (``"pairs"``), one or several words that
        describe a condition (``"text"``), or nothing (``"none"``).
    folders
        The folders of clips in a machine type's folder.
    channels
        Default policy for recordings of several channels.
    """

    name: str
    names: Literal["section", "machine id"] = "section"
    attributes: Literal["pairs", "text", "none"] = "pairs"
    folders: tuple[ClipFolder, ...] = _TRAIN_AND_TEST
    channels: ChannelPolicy = "mean"

    def folder(self, name: str) -> ClipFolder:
        """Return the folder of clips ``name``; :class:`InputError` if the layout has none."""
        for folder in self.folders:
            if folder.name == name:
                return folder
        raise unknown_name(
            f"folder of clips in the layout {self.name!r}", name, [f.name for f in self.folders]
        )


MACHINE_IDS = Layout("machine-ids", names="machine id", attributes="none")
"""Several machines per type, identified by an id in the name; no domains, no attributes."""

DOMAIN_FOLDERS = Layout(
    "domain-folders",
    attributes="text",
    folders=(
        ClipFolder("train", "train"),
        ClipFolder("source_test", "test", "source"),
        ClipFolder("target_test", "test", "target"),
    ),
)
"""Test clips in a folder of their domain, which is therefore known for evaluation clips too."""

SECTIONS = Layout("sections")
"""Section, domain and attributes in the name; attributes in ``attributes_NN.csv`` too."""

SECTIONS_WITH_SUPPLEMENT = Layout(
    "sections-with-supplement", folders=(*_TRAIN_AND_TEST, ClipFolder("supplemental", "supplemental"))
)
"""As ``SECTIONS``, with a folder of clean machine sound or of noise."""

TWO_MICROPHONES = Layout("two-microphones", channels="near")
"""As ``SECTIONS``, in stereo: the microphone near the machine left, the far one right."""

LAYOUTS = {
    layout.name: layout
    for layout in (MACHINE_IDS, DOMAIN_FOLDERS, SECTIONS, SECTIONS_WITH_SUPPLEMENT, TWO_MICROPHONES)
}


SPLIT_FOLDERS = ("train", "test", "source_test", "target_test")
"""A folder that contains one of these is a machine type's folder."""


def named_layout(name: str) -> Layout:
    """Return the layout ``name``; raise :class:`InputError` if there is none.

    Examples
    --------
    >>> named_layout("machine-ids").attributes
    'none'
    """
    try:
        return LAYOUTS[name]
    except KeyError:
        raise unknown_name("layout", name, LAYOUTS) from None


def detect_layout(machines: Sequence[Path]) -> Layout:
    """Return the layout of folders of machine types; ``SECTIONS`` if there is no sign of another one.

    ``TWO_MICROPHONES`` differs from ``SECTIONS`` in the recordings, not in names, and is never detected.

    Raises
    ------
    InputError
        Folders or names belong to different layouts.
    """
    shown: dict[str, str] = {}  # layout: the first path that indicates it
    for machine in machines:
        for domain_folder in ("source_test", "target_test"):
            if (machine / domain_folder).is_dir():
                shown.setdefault(DOMAIN_FOLDERS.name, f"{machine.name}/{domain_folder}/")
        for path in _clips(machine, "supplemental"):
            shown.setdefault(SECTIONS_WITH_SUPPLEMENT.name, path)
        for path in [*_clips(machine, "train"), *_clips(machine, "test")]:
            if _MACHINE_ID_NAME.match(PurePosixPath(path).name):
                shown.setdefault(MACHINE_IDS.name, path)
        for path in _clips(machine, "test"):
            if PurePosixPath(path).name.startswith("section_"):
                shown.setdefault(SECTIONS.name, path)
    if SECTIONS_WITH_SUPPLEMENT.name in shown:
        shown.pop(SECTIONS.name, None)
    if len(shown) > 1:
        seen = ", ".join(f"{path!r} ({name})" for name, path in shown.items())
        raise InputError(f"the folder mixes layouts: {seen}; choose one with --layout")
    return LAYOUTS[next(iter(shown), SECTIONS.name)]


def _clips(machine: Path, folder: str) -> list[str]:
    """Return the paths of audio files in a folder of a machine type, relative to the folder around it."""
    try:
        names = sorted(entry.name for entry in os.scandir(machine / folder))
    except OSError:  # missing or unreadable, which listing the folder reports
        return []
    return [f"{machine.name}/{folder}/{name}" for name in names if name.lower().endswith(AUDIO_SUFFIXES)]
