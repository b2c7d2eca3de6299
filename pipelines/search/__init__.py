"""Benchmarks of search and of encoding single queries."""
