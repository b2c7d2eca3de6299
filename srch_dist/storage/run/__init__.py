"""Run directories: paths, records, checkpoints, and upload of results."""
