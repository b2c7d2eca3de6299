"""Ingest: from files of many formats to one feature store."""
