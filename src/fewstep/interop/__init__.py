"""In and out of other libraries."""
