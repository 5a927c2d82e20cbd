"""Searches with Optuna: settings of a system, weights of an ensemble. Knows neither Ray nor MLflow."""
