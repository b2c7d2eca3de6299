"""Train one run for each combination of a grid of options."""
