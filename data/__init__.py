"""Images, labels and boxes: everything that is read or written."""
