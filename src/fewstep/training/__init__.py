"""Training: one loop, everything that resumes, moving averages, optimisers."""
