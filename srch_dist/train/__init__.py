"""Train one model: from a feature store to a finished run directory."""
