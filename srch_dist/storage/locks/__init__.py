"""Locks: one writer at a time in a directory or at a place in an object store."""
