"""Store features, codes and runs in files, Zarr arrays and object stores, and lock the outputs."""
