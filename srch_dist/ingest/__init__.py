"""From the files people have to a feature store."""
