"""Networks, in torch."""
