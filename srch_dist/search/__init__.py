"""Nearest codes by Hamming distance."""
