"""Serving without any protocol: the desk, jobs and their runtime, shared batches, stored images, metrics, traces."""
