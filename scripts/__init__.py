"""The sppnet command and its sub-commands."""
