"""Files, Zarr arrays and object stores: feature and code stores, run directories, locks."""
