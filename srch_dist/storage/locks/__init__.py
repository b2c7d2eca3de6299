"""Locks that allow one writer at a time to a file, a directory or a key of an object store."""
