"""Reports on stored results; computes no scores and imports neither ray, mlflow nor torch."""
