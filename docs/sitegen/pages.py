"""All generated pages of the site."""

from pathlib import Path

from sitegen.api_pages import api_pages
from sitegen.command_page import command_page
from sitegen.notebook_page import notebook_page
from sitegen.system_pages import system_pages

ROOT = Path(__file__).parents[2]


def generated_pages() -> dict[str, str]:
    """Return the Markdown of the generated pages by their place in the site."""
    from asdbench.cli.main import app

    return {
        "reference/cli.md": command_page(app),
        "reference/benchmarks.md": project_page("benchmarks/README.md"),
        "reference/changelog.md": project_page("CHANGELOG.md"),
        "reference/contributing.md": project_page("CONTRIBUTING.md"),
        **{f"{path.stem}.md": notebook_page(path) for path in (ROOT / "docs").glob("*.ipynb")},
        **api_pages(),
        **system_pages(),
    }


def project_page(path: str) -> str:
    """Return a file of the project that is outside ``docs``, with its links to pages of ``docs``."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return text.replace("](../docs/", "](../").replace("](docs/", "](../")
