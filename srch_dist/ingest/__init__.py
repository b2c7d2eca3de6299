"""Ingest: convert files of many formats to one feature store."""
