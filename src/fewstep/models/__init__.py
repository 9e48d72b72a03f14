"""Saved models: what a model is on disk, its text table, its description, finding and writing it."""
