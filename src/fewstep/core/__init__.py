"""The mathematics, written once for NumPy and torch: levels, paths, parameterisations, the jump and its grids."""
