"""Codes for other tools."""
