"""Engines: run one network fast."""
