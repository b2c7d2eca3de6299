"""The run directory: paths, records, checkpoints, publishing."""
