"""asdbench: a bench for detectors of anomalous machine sound (DCASE Challenge Task 2)."""

__version__ = "0.1.0"
