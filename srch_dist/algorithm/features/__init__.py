"""Features in training order: normalisation, statistics, sample and row order."""
