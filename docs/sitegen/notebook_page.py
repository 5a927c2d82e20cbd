"""A notebook as a page: its text, its code and what the code printed or drew."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def notebook_page(path: Path) -> str:
    """Return a notebook as Markdown."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [part for cell in cells for part in _parts(cell)]
    return "\n\n".join(parts) + "\n"


def _parts(cell: Mapping[str, Any]) -> Iterator[str]:
    source = _text(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        yield source
    elif cell["cell_type"] == "code" and source:
        yield _fence("python", source)
        for output in cell["outputs"]:
            yield from _output(output)


def _output(output: Mapping[str, Any]) -> Iterator[str]:
    """Yield a picture, or else a text, of what a cell left."""
    data = output.get("data", {})
    if "image/png" in data:
        yield f"![what the cell draws](data:image/png;base64,{_text(data['image/png']).strip()})"
    elif "text" in output or "text/plain" in data:
        yield _fence("text", _text(output.get("text", data.get("text/plain", ""))).rstrip())


def _fence(language: str, text: str) -> str:
    return f"````{language}\n{text}\n````"


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)
