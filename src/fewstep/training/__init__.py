"""Training: one loop, checkpoints, moving averages and optimisers."""
