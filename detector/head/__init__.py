"""The fc layers between pooled features and scores: initialisation, compression and fast products."""
