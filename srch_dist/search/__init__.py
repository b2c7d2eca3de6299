"""Search for the nearest codes in Hamming distance."""
