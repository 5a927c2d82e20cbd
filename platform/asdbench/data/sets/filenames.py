"""What a clip's file name says, in the grammar of its layout.

Conventions
-----------
``section`` grammar: ``section_00_{source|target}_{train|test}_{normal|anomaly}_NNNN_<attributes>.wav`` (or
``.flac``). An evaluation clip says less: ``section_00_NNNN.wav``, ``section_00_test_NNNN.wav`` or
``section_00_{source|target}_test_NNNN.wav``. A supplemental clip is ``section_00_{machine|noise}_NNNN_.wav``;
which of the two becomes its attribute ``sound``.

``machine id`` grammar: ``{normal|anomaly}_id_00_NNNNNNNN.wav``, an evaluation clip ``id_00_NNNNNNNN.wav``.
The id becomes the section.

Attributes as pairs are split on ``_`` alone (``m-n`` is one attribute name), may end in a bare ``_``, and
``noAttribute`` stands for none. Attributes as text (``strength_1_ambient``) become one attribute
``condition``. A layout says which.

Source
------
File lists of the DCASE Task 2 data sets, and the read-me files of their baselines.

Known departures
----------------
Files that were renamed after the challenge may lack ``_test``; it is then taken from the folder. Values are
text and are kept as they stand, numbers of clips mean nothing. The name of a supplemental clip of noise is
not documented: any one word in the place of ``machine`` is taken.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from asdbench.data.sets.layouts import AUDIO_SUFFIXES, SECTIONS, ClipFolder, Layout
from asdbench.errors import InputError

NO_ATTRIBUTE = "noAttribute"

Attributes = tuple[tuple[str, str], ...]

_LABELLED = re.compile(
    r"section_(?P<section>[0-9]+)_(?P<domain>source|target)_(?:(?P<split>train|test)_)?"
    r"(?P<label>normal|anomaly)_(?P<index>[0-9]+)(?:_(?P<tail>.*))?"
)
_UNLABELLED = re.compile(
    r"section_(?P<section>[0-9]+)_(?:(?P<domain>source|target)_)?(?:(?P<split>test)_)?(?P<index>[0-9]+)_?"
)
_SUPPLEMENTAL = re.compile(
    r"section_(?P<section>[0-9]+)_(?P<sound>[A-Za-z]+)_(?P<index>[0-9]+)(?:_(?P<tail>.*))?"
)
_MACHINE_ID = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<section>[0-9]+)_(?P<index>[0-9]+)")


@dataclass(frozen=True)
class ClipName:
    """What a file name says.

    ``section`` is its digits (``"00"``); ``domain`` is ``"source"``, ``"target"`` or None; ``split`` is
    ``"train"``, ``"test"`` or ``"supplemental"``; ``label`` is ``"normal"``, ``"anomaly"`` or None;
    ``attributes`` are (name, value) pairs in the order of the name.
    """

    section: str
    domain: str | None
    split: str
    label: str | None
    index: str
    attributes: Attributes


def parse_clip_name(name: str, *, split_folder: str, layout: Layout = SECTIONS) -> ClipName:
    """Parse the file name ``name`` of a clip in the folder ``split_folder`` of a machine type.

    Raises
    ------
    InputError
        The name does not follow the layout, disagrees with its folder, or calls a training clip an anomaly;
        or the layout has no such folder.
    """
    folder = layout.folder(split_folder)
    file = PurePosixPath(name)
    if file.suffix.lower() not in AUDIO_SUFFIXES:
        raise InputError(f"{name!r} does not end in {' or '.join(AUDIO_SUFFIXES)}")
    if not name.isprintable():
        raise InputError(f"{name!r} holds characters that cannot be printed; rename the file")
    if folder.split == "supplemental":
        return _supplemental(file)
    found = (
        _with_machine_id(file, folder)
        if layout.names == "machine id"
        else _with_section(file, folder, layout)
    )
    if found.label is None and folder.split != "test":
        raise InputError(f"{name!r} names no label, which only a test clip may leave out")
    if folder.split == "train" and found.label == "anomaly":
        raise InputError(f"{name!r} is a training clip labeled anomaly; training clips are normal")
    return found


def _with_machine_id(file: PurePosixPath, folder: ClipFolder) -> ClipName:
    found = _MACHINE_ID.fullmatch(file.stem)
    if found is None:
        raise InputError(
            f"{file.name!r} is not <normal|anomaly>_id_NN_NNNNNNNN or, under test/, id_NN_NNNNNNNN"
        )
    return ClipName(found["section"], folder.domain, folder.split, found["label"], found["index"], ())


def _with_section(file: PurePosixPath, folder: ClipFolder, layout: Layout) -> ClipName:
    name = file.name
    label, attributes = None, Attributes()
    if not (found := _UNLABELLED.fullmatch(file.stem)):
        found = _LABELLED.fullmatch(file.stem)
        if found is None:
            raise InputError(
                f"{name!r} is not section_NN_<source|target>_<train|test>_<normal|anomaly>_NNNN_<attributes>"
                " or, under test/, section_NN_NNNN"
            )
        if found["split"] is None and folder.split != "test":
            raise InputError(f"{name!r} does not say _train_, which only a clip under test/ may leave out")
        label = found["label"]
        attributes = _attributes(found["tail"] or "", name, layout)
    for told, expected in ((found["split"], folder.split), (found["domain"], folder.domain)):
        if told is not None and expected not in (told, None):
            raise InputError(f"{name!r} says {told}, but lies in {folder.name}/")
    domain = found["domain"] or folder.domain
    return ClipName(found["section"], domain, folder.split, label, found["index"], attributes)


def _supplemental(file: PurePosixPath) -> ClipName:
    found = _SUPPLEMENTAL.fullmatch(file.stem)
    if found is None:
        raise InputError(f"{file.name!r} is not section_NN_<machine|noise>_NNNN_<attributes>")
    attributes = (("sound", found["sound"]), *_attributes(found["tail"] or "", file.name, SECTIONS))
    return ClipName(found["section"], None, "supplemental", None, found["index"], attributes)


def _attributes(tail: str, name: str, layout: Layout) -> Attributes:
    text = tail.removesuffix("_")
    if text in ("", NO_ATTRIBUTE):
        return ()
    if layout.attributes == "text":
        return (("condition", text),)
    words = text.split("_")
    if len(words) % 2 or "" in words:
        raise InputError(f"{name!r} ends in {tail!r}, which is not attribute names and values in turn")
    pairs = tuple(zip(words[::2], words[1::2], strict=True))
    if len({attribute for attribute, _ in pairs}) < len(pairs):
        raise InputError(f"{name!r} gives an attribute twice")
    return pairs
