"""Reference of training crops: scale the whole photograph, then crop; change colours step by step."""

import math

import numpy as np

from reference.warp import stretched


def averaged(line, size):
    """Means of ``size`` equal parts of values (n, ...)."""
    values = np.zeros((size, *line.shape[1:]))
    for place in range(size):
        start, end = place * len(line) / size, (place + 1) * len(line) / size
        for index in range(math.floor(start), min(math.ceil(end), len(line))):
            values[place] += line[index] * (min(end, index + 1) - max(start, index))
        values[place] /= end - start
    return values


def scaled(image, height, width):
    """Resize the whole image (H, W, 3), float."""
    shrinks = height / image.shape[0] < 0.5 and width / image.shape[1] < 0.5
    one_axis = averaged if shrinks else stretched
    return one_axis(one_axis(image.astype(float), height).swapaxes(0, 1), width).swapaxes(0, 1)


def scaled_size(image, shorter):
    """Height and width when the shorter side becomes ``shorter``."""
    factor = shorter / min(image.shape[:2])
    return round(image.shape[0] * factor), round(image.shape[1] * factor)


def five_crops(whole, side):
    """Centre and corners: top left, top right, bottom left, bottom right."""
    height, width = whole.shape[:2]
    down, along = height - side, width - side
    starts = [(down // 2, along // 2), (0, 0), (0, along), (down, 0), (down, along)]
    return [whole[top : top + side, left : left + side] for top, left in starts]


def grey(colour):
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def jittered(crop, brightness, contrast, saturation, order):
    """Change brightness (0), contrast (1) and saturation (2) in a given order, pixel by pixel, float."""
    pixels = crop.astype(float).reshape(-1, 3)
    for step in order:
        mean_grey = grey(pixels.mean(axis=0))
        for index, colour in enumerate(pixels.copy()):
            if step == 0:
                pixels[index] = brightness * colour
            elif step == 1:
                pixels[index] = contrast * colour + (1 - contrast) * mean_grey
            else:
                pixels[index] = saturation * colour + (1 - saturation) * grey(colour)
    return pixels.reshape(crop.shape)
