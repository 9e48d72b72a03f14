"""Engines: the libraries that run a network."""
