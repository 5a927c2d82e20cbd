"""``python -m asdbench``: the command line."""

from asdbench.cli import main

if __name__ == "__main__":
    main()
