"""``python -m asdbench``: the command line."""

from asdbench.cli.main import main

if __name__ == "__main__":
    main()
