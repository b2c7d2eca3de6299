"""The Z-step's linear system over blocks: graph blocks, halo exchange, conjugate gradients."""
