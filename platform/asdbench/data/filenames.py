"""What a clip's file name says in the layout of DCASE Task 2 from 2023 on.

Conventions
-----------
A clip is ``section_00_{source|target}_{train|test}_{normal|anomaly}_NNNN_<name>_<value>_<name>_<value>.wav``
(or ``.flac``); a test clip of an evaluation set is ``section_00_NNNN.wav`` and says nothing more. The tail is
split on ``_`` alone (``m-n`` is one attribute name), may end in a bare ``_`` (2026), and ``noAttribute``
(2024) stands for no attributes.

Source
------
File lists of the DCASE 2023 to 2026 Task 2 data sets.

Known departures
----------------
Files that were renamed after the challenge may lack ``_test``; it is then taken from the folder. Values are
text and are kept as they stand.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from asdbench.errors import InputError

AUDIO_SUFFIXES = (".wav", ".flac")
SPLITS = ("train", "test")
NO_ATTRIBUTE = "noAttribute"

_LABELLED = re.compile(
    r"section_(?P<section>[0-9]+)_(?P<domain>source|target)_(?:(?P<split>train|test)_)?"
    r"(?P<label>normal|anomaly)_(?P<index>[0-9]+)(?:_(?P<tail>.*))?"
)
_UNLABELLED = re.compile(r"section_(?P<section>[0-9]+)_(?P<index>[0-9]+)_?")


@dataclass(frozen=True)
class ClipName:
    """What a file name says.

    ``section`` is its digits (``"00"``); ``domain`` is ``"source"``, ``"target"`` or None; ``split`` is
    ``"train"`` or ``"test"``; ``label`` is ``"normal"``, ``"anomaly"`` or None; ``attributes`` are (name,
    value) pairs in the order of the name.
    """

    section: str
    domain: str | None
    split: str
    label: str | None
    index: str
    attributes: tuple[tuple[str, str], ...]


def parse_clip_name(name: str, *, split_folder: str) -> ClipName:
    """Parse the file name ``name`` of a clip in the folder ``split_folder`` (``train`` or ``test``).

    Raises
    ------
    InputError
        The name does not follow the layout, disagrees with its folder, or calls a training clip an anomaly.
    """
    file = PurePosixPath(name)
    if file.suffix.lower() not in AUDIO_SUFFIXES:
        raise InputError(f"{name!r} does not end in {' or '.join(AUDIO_SUFFIXES)}")
    if not name.isprintable():
        raise InputError(f"{name!r} holds characters that cannot be printed; rename the file")
    if found := _UNLABELLED.fullmatch(file.stem):
        if split_folder != "test":
            raise InputError(f"{name!r} names no domain, which only a clip under test/ may leave out")
        return ClipName(found["section"], None, split_folder, None, found["index"], ())
    found = _LABELLED.fullmatch(file.stem)
    if found is None:
        raise InputError(
            f"{name!r} is not section_NN_<source|target>_<train|test>_<normal|anomaly>_NNNN_<attributes>"
            " or, under test/, section_NN_NNNN"
        )
    if found["split"] is None and split_folder != "test":
        raise InputError(f"{name!r} does not say _train_, which only a clip under test/ may leave out")
    if found["split"] not in (None, split_folder):
        raise InputError(f"{name!r} says {found['split']}, but lies in {split_folder}/")
    if split_folder == "train" and found["label"] == "anomaly":
        raise InputError(f"{name!r} is a training clip labelled anomaly; training clips are normal")
    attributes = _attributes(found["tail"] or "", name)
    return ClipName(
        found["section"], found["domain"], split_folder, found["label"], found["index"], attributes
    )


def _attributes(tail: str, name: str) -> tuple[tuple[str, str], ...]:
    words = tail.removesuffix("_").split("_")
    if words in ([""], [NO_ATTRIBUTE]):
        return ()
    if len(words) % 2 or "" in words:
        raise InputError(f"{name!r} ends in {tail!r}, which is not attribute names and values in turn")
    pairs = tuple(zip(words[::2], words[1::2], strict=True))
    if len({attribute for attribute, _ in pairs}) < len(pairs):
        raise InputError(f"{name!r} gives an attribute twice")
    return pairs
