"""Records runs in MLflow: the only room that imports it, and only when something is recorded."""
