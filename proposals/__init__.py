"""Where objects may be: selective search and other sources of windows."""
