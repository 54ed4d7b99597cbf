"""How good and how fast: average precision, recall, timing, reports."""
