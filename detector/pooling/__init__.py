"""Spatial pyramid pooling: the levels, pooling of whole maps and of windows, and the compiled CPU kernel."""
