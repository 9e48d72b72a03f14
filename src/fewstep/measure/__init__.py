"""Quality and speed: metrics, picture judges, quality against cost, and level tuning. Needs no torch."""
