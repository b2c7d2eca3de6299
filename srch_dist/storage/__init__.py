"""The only rooms that know Zarr and files: feature stores, run directories, the model file."""
