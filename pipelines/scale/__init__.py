"""Scale benchmarks: synthetic data, in-memory reference, hardware floors and figures."""
