"""Faults on purpose: armed by a file, done inside real workers and clients at a named moment."""
