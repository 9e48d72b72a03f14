"""Serving: many people's requests, one network, answers while they are still looking."""
