"""Algorithm 1 of the paper: features, neighbour graph, solver, loop and encoders."""
