"""Benchmarks of scale: data, reference, floors, figures."""
