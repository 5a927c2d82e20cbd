"""Metrics as pure functions over arrays: numpy, scipy and scikit-learn only."""
