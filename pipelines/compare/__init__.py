"""Comparison of SRCH with other methods on paired features; the paper's ablation and sweeps."""
