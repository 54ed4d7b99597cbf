"""Slow, obvious twins of the fast paths; the tests compare the two."""
