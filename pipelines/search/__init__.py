"""Benchmark of Hamming search and of encoding single queries."""
