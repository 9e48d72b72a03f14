"""The protocol-independent part of serving: desk, jobs, runtime, batching, image store, metrics and traces."""
