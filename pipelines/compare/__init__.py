"""SRCH beside other methods on any paired features: one table, the paper's ablation and sweeps."""
