"""Readers of source files: one module per format, behind one protocol."""
