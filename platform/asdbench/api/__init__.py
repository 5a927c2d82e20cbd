"""The Python API: what the command line does, as functions that return typed results.

Its functions are names of ``asdbench`` itself, imported on first access.
"""
