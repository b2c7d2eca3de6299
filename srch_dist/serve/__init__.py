"""Serve searches over HTTP."""
