"""One training run, from feature store to finished directory."""
