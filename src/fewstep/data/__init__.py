"""Data sources: emoji, digits, image folders, Hugging Face data sets and 2-D toys."""
