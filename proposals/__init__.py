"""Region proposals: selective search and other sources of windows."""
