"""The linear system of the Z-step (Eq. 14) over row blocks: assembly, halos and CG."""
