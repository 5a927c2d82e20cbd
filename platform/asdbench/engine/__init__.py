"""One training loop, scoring, checkpoints, jobs and their store. Knows no cluster."""
