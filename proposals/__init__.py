"""Where objects might be: selective search and other sources of windows."""
