"""The command line: thin, typed functions that import what they need only when they run."""
