"""Members of ensembles as a user writes them."""

import pytest

from asdbench.errors import InputError
from asdbench.presets import Variant, split_presets


def test_a_member_is_a_system_with_presets_settings_and_another_seed() -> None:
    assert Variant.from_text("mine") == Variant("mine", "mine")
    text = "mine@fast:altered:width=0.5:mode=a=b:seed=2"
    assert Variant.from_text(text) == Variant(
        text, "mine", ("fast", "altered"), {"width": "0.5", "mode": "a=b"}, 2
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine@", "has an empty word after '@'; write it like 'mine@preset:setting=value:seed=1'"),
        ("mine@fast::width=1", "has an empty word after '@'"),
        ("mine@=1", "has an empty word after '@'"),
        ("mine@width=1:width=2", "gives 'width' twice"),
        ("mine@seed=-1", "seed=-1 is added to the seed of the run; give a whole number from 0"),
        ("mine@seed=1.5", "seed=1.5 is added"),
    ],
)
def test_what_a_member_cannot_be(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Variant.from_text(text)


def test_presets_are_separated_by_commas() -> None:
    assert split_presets("fast, robust") == ["fast", "robust"]
    assert split_presets(None) == []
