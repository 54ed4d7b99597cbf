"""Slow, simple reference implementations; the tests compare the fast ones with them."""
