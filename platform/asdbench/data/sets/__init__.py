"""Data sets: challenges, download, layouts, the clip table, labels kept apart, and the catalog."""
