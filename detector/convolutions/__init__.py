"""Networks cut at a feature map: which ones, their weights, the map's stride and receptive fields."""
