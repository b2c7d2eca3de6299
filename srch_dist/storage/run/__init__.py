"""The run directory: paths, commits, results, publishing."""
