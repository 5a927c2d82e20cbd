"""The command that prints citations."""


def cite(*systems: str) -> None:
    """Print the BibTeX of systems, or of asdbench.

    Parameters
    ----------
    systems
        Names of systems; an ensemble comes with its members (default: asdbench itself).
    """
    from asdbench.report.citations import citations

    print("\n\n".join(citations(systems)))
