"""Data sets: file names, clip tables, truth, the Arrow store, batches of clips and the embedded data set."""
