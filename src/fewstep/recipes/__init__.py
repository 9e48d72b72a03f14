"""Recipes: one file is one experiment, as code."""
