"""What a download makes of a server's redirects; the rest is tested where files are downloaded."""

import io
from pathlib import Path

import pytest
import requests

from asdbench.io.download import Refused, fetch


def answer(url: str, *, before: str) -> requests.Response:
    response, step = requests.Response(), requests.Response()
    response.url, step.url = url, before
    response.status_code, response.raw = 200, io.BytesIO()
    response.history = [step]
    return response


@pytest.mark.parametrize(
    ("before", "last"),
    [("https://a.org/x", "http://b.org/x"), ("http://b.org/x", "https://a.org/y")],
)
def test_a_redirect_may_not_drop_the_encryption(
    before: str, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "get", lambda *_, **__: answer(last, before=before))
    with pytest.raises(Refused, match="redirects to an address without encryption"):
        fetch("https://a.org/x", tmp_path / "part")
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("url", ["nowhere", "gopher://a.org/x", "https://"])
def test_what_is_no_address_is_refused_at_once(url: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is not a web address"):
        fetch(url, tmp_path / "part")
