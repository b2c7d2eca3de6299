"""The model, and codes of rows."""
