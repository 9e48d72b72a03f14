"""How good, how fast: metrics, judges of pictures, quality against cost, and levels tuned by them. Without torch."""
