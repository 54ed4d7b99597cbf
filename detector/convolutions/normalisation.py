"""How images are normalised before they enter a network."""

# torchvision's normalisation of RGB / 255; all its networks use it, except two converted from TensorFlow.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
