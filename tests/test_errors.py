from asdbench.errors import InputError, unknown_name


def test_an_unknown_name_is_answered_with_the_nearest_or_with_all() -> None:
    known = ["multitask-mel", "adversarial"]
    assert str(unknown_name("system", "adversarail", known)) == (
        "no system 'adversarail'; did you mean 'adversarial'?"
    )
    assert str(unknown_name("system", "xyz", known)).endswith("adversarial, multitask-mel")
    assert str(unknown_name("system", "xyz", [])).endswith("none")
    assert isinstance(unknown_name("system", "xyz", []), InputError)
