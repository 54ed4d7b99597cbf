"""The fc layers between pooled features and scores: random or pretrained, compressed, multiplied fast."""
