"""The command line: thin, typed functions that import what they need when they run."""
