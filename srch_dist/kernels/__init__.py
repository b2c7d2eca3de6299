"""The mathematics for one block of rows. The modules import NumPy and SciPy, and open no files.

n is the number of rows, d_g the number of dimensions of modality g, and l the number of bits.
Arrays hold one sample per row: X_g is (n, d_g), Z and B are (n, l), W_g is (l, d_g). The paper
holds one sample per column. Formulas are written as in the paper: X_g B' is (d_g, l), BB' is
(l, l).
The sign ' transposes a matrix.
Equation numbers are those of the paper (SRCH, IJCAI 2020).
"""
