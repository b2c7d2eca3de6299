"""Readers of source files: one module per format, all with the interface `base.Source`."""
