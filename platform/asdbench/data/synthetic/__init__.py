"""The embedded data set: synthetic sounds of seven machine types."""
