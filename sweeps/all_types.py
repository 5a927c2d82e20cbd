"""All systems on every machine type: ``python sweeps/all_types.py --data NAME --seeds 0 1 2``."""

from asdbench.cli.sweep import all_types

if __name__ == "__main__":
    all_types()
