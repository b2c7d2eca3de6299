"""Shared by the commands: parsing, help texts, exit codes, logs, tables, progress displays."""
