"""Figures of the report: pure functions from plain data to matplotlib figures.

Conventions: scores of metrics are fractions between 0 and 1 and shown in percent. Every figure uses the
colors of `asdbench.report.figures.style`, which the HTML report replaces by CSS variables, so that one
drawing serves light and dark pages, PNG and PDF.
"""
