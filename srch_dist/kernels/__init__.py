"""The mathematics on one block of rows: NumPy and SciPy, no Dask, no Zarr, no files."""
