"""Classification of whole photographs by the same convolutions, pyramid and fc layers as detection."""
