"""File names of clips, parsed by the grammar of their layout.

Conventions
-----------
``section`` grammar: ``section_00_{source|target}_{train|test}_{normal|anomaly}_NNNN_<attributes>.wav`` (or
``.flac``). The name of an evaluation clip is shorter: ``section_00_NNNN.wav``, ``section_00_test_NNNN.wav``
or ``section_00_{source|target}_test_NNNN.wav``. A supplemental clip is
``section_00_{machine|noise}_NNNN_.wav``; ``machine`` or ``noise`` becomes its attribute ``sound``.

``machine id`` grammar: ``{normal|anomaly}_id_00_NNNNNNNN.wav``, an evaluation clip ``id_00_NNNNNNNN.wav``.
The id becomes the section.

Attributes as pairs are split on ``_`` only (``m-n`` is one attribute name) and may end in a bare ``_``;
``noAttribute`` means none. Attributes as text (``strength_1_ambient``) become one attribute ``condition``.
The layout determines the form.

Source
------
File lists of the DCASE Task 2 data sets, and the README files of their baselines.

Known departures
----------------
Files that were renamed after the challenge may lack ``_test``; it is then taken from the folder. Values are
text and are kept unchanged, and numbers of clips have no meaning. The name of a supplemental clip of noise is
not documented: any single word is accepted in place of ``machine``.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from asdbench.data.sets.layouts import AUDIO_SUFFIXES, SECTIONS, ClipFolder, Layout
from asdbench.errors import InputError

NO_ATTRIBUTE = "noAttribute"

Attributes = tuple[tuple[str, str], ...]

_LABELED = re.compile(
    r"section_(?P<section>[0-9]+)_(?P<domain>source|target)_(?:(?P<split>train|test)_)?"
    r"(?P<label>normal|anomaly)_(?P<index>[0-9]+)(?:_(?P<tail>.*))?"
)
_UNLABELED = re.compile(
    r"section_(?P<section>[0-9]+)_(?:(?P<domain>source|target)_)?(?:(?P<split>test)_)?(?P<index>[0-9]+)_?"
)
_SUPPLEMENTAL = re.compile(
    r"section_(?P<section>[0-9]+)_(?P<sound>[A-Za-z]+)_(?P<index>[0-9]+)(?:_(?P<tail>.*))?"
)
_MACHINE_ID = re.compile(r"(?:(?P<label>normal|anomaly)_)?id_(?P<section>[0-9]+)_(?P<index>[0-9]+)")


@dataclass(frozen=True)
class ClipName:
    """The parts of a file name.

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

    Examples
    --------
    >>> parsed = parse_clip_name(
    ...     "section_00_target_test_anomaly_0003_vel_16.wav", split_folder="test"
    ... )
    >>> parsed.domain, parsed.label, parsed.attributes
    ('target', 'anomaly', (('vel', '16'),))

    Raises
    ------
    InputError
        The name does not follow the layout, contradicts its folder, or labels a training clip an anomaly, or
        the layout has no such folder.
    """
    folder = layout.folder(split_folder)
    file = PurePosixPath(name)
    if file.suffix.lower() not in AUDIO_SUFFIXES:
        raise InputError(f"{name!r} does not end in {' or '.join(AUDIO_SUFFIXES)}")
    if not name.isprintable():
        raise InputError(f"{name!r} contains unprintable characters; rename the file")
    if folder.split == "supplemental":
        return _supplemental(file)
    clip_name = (
        _with_machine_id(file, folder)
        if layout.names == "machine id"
        else _with_section(file, folder, layout)
    )
    if clip_name.label is None and folder.split != "test":
        raise InputError(f"{name!r} has no label, which only a test clip may omit")
    if folder.split == "train" and clip_name.label == "anomaly":
        raise InputError(f"{name!r} is a training clip labeled anomaly; training clips are normal")
    return clip_name


def _with_machine_id(file: PurePosixPath, folder: ClipFolder) -> ClipName:
    match = _MACHINE_ID.fullmatch(file.stem)
    if match is None:
        raise InputError(
            f"{file.name!r} is not <normal|anomaly>_id_NN_NNNNNNNN or, under test/, id_NN_NNNNNNNN"
        )
    return ClipName(match["section"], folder.domain, folder.split, match["label"], match["index"], ())


def _with_section(file: PurePosixPath, folder: ClipFolder, layout: Layout) -> ClipName:
    name = file.name
    label, attributes = None, Attributes()
    if not (match := _UNLABELED.fullmatch(file.stem)):
        match = _LABELED.fullmatch(file.stem)
        if match is None:
            raise InputError(
                f"{name!r} is not section_NN_<source|target>_<train|test>_<normal|anomaly>_NNNN_<attributes>"
                " or, under test/, section_NN_NNNN"
            )
        if match["split"] is None and folder.split != "test":
            raise InputError(f"{name!r} lacks _train_, which only a clip under test/ may omit")
        label = match["label"]
        attributes = _attributes(match["tail"] or "", name, layout)
    for named, expected in ((match["split"], folder.split), (match["domain"], folder.domain)):
        if named is not None and expected not in (named, None):
            raise InputError(f"{name!r} contains {named}, but the file is in {folder.name}/")
    domain = match["domain"] or folder.domain
    return ClipName(match["section"], domain, folder.split, label, match["index"], attributes)


def _supplemental(file: PurePosixPath) -> ClipName:
    match = _SUPPLEMENTAL.fullmatch(file.stem)
    if match is None:
        raise InputError(f"{file.name!r} is not section_NN_<machine|noise>_NNNN_<attributes>")
    attributes = (("sound", match["sound"]), *_attributes(match["tail"] or "", file.name, SECTIONS))
    return ClipName(match["section"], None, "supplemental", None, match["index"], attributes)


def _attributes(tail: str, name: str, layout: Layout) -> Attributes:
    text = tail.removesuffix("_")
    if text in ("", NO_ATTRIBUTE):
        return ()
    if layout.attributes == "text":
        return (("condition", text),)
    words = text.split("_")
    if len(words) % 2 or "" in words:
        raise InputError(f"{name!r} ends in {tail!r}, which is not a sequence of attribute names and values")
    pairs = tuple(zip(words[::2], words[1::2], strict=True))
    if len({attribute for attribute, _ in pairs}) < len(pairs):
        raise InputError(f"{name!r} repeats an attribute")
    return pairs
