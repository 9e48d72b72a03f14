"""Benches, method comparisons, and the proofs and pictures of the docs: for the command line alone."""
