"""The mathematics on one block of rows, on NumPy and SciPy alone: no Dask, no Zarr, no files.

Arrays hold samples in rows: X_g is (n, d_g), Z and B are (n, l), W_g is (l, d_g). The paper holds
them in columns. Products that are named by the paper's letters, such as X_g B' (d_g, l) and
BB' (l, l), follow the paper. Equation numbers are the paper's (SRCH, IJCAI 2020).
"""
