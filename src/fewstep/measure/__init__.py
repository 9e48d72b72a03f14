"""How good, how fast: metrics, a judge of pictures, and rows of quality against cost.

`recogniser` trains the judge of emoji and needs torch; everything else runs from the core install.
"""
