"""Saved models: their form on disk, their description, the token table, and how models are found and written."""
