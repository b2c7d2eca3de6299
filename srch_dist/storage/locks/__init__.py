"""Locks of run directories on file systems and in object stores."""
