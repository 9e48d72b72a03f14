"""The studio: a page of static files."""
