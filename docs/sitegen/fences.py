"""Code fences that become pictures when the site is built, so that a page loads no library for them.

``mermaid`` fences become SVG, which ``stylesheets/site.css`` gives the colors of the theme; ``math`` fences
become MathML. GitHub draws both.
"""

import hashlib
from typing import Any


def format_diagram(source: str, *arguments: Any, **keywords: Any) -> str:
    """Return a Mermaid diagram as SVG; an error in it fails the build."""
    import mermaidx

    name = "diagram-" + hashlib.blake2b(source.encode(), digest_size=4).hexdigest()
    svg = str(mermaidx.render(source).svg()).replace("my-svg", name)  # each id once on a page
    return f'<figure class="diagram" tabindex="0">{svg}</figure>'


def format_formula(source: str, *arguments: Any, **keywords: Any) -> str:
    """Return a formula in LaTeX as MathML.

    >>> format_formula("x^2")[:28]
    '<figure class="formula"><mat'
    """
    from latex2mathml.converter import convert

    return f'<figure class="formula">{convert(source, display="block")}</figure>'
