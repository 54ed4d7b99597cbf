"""The spatial pyramid: its levels, pooling of whole maps and of windows, and the compiled CPU kernel."""
