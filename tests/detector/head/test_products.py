"""Products of rows with fixed weights: the same with every library."""

import pytest
import torch
from sppnet.detector.head.products import Product
from torch import nn


def layer_of(inputs, outputs, bias=True, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(inputs * 100 + outputs)
        return nn.Linear(inputs, outputs, bias=bias).to(dtype).requires_grad_(False)


def rows_of(count, width):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [0, 1, 7, 130])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (33, 5), (257, 64)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_exact_arithmetic(count, inputs, outputs, bias):
    layer, rows = layer_of(inputs, outputs, bias), rows_of(count, inputs)
    with torch.inference_mode():
        got = Product(layer)(rows)
    expected = rows.double() @ layer.weight.double().T + (layer.bias.double() if bias else 0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_columns_can_be_left_out_and_rows_scaled(dtype):
    layer, rows = layer_of(40, 6, dtype=dtype), rows_of(9, 40)
    used = rows[:, 10:25].to(dtype).double()
    expected = 0.3 * used @ layer.weight[:, 10:25].double().T + layer.bias.double()
    got = Product(layer, 0.3, 10, 25)(rows)
    # The sums are rounded to the weights' precision.
    tolerance = 1e-5 if dtype == torch.float32 else 0.01
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


def test_rows_take_the_precision_of_the_weights():
    layer, rows = layer_of(40, 6, dtype=torch.bfloat16), rows_of(9, 40)
    got = Product(layer)(rows)
    assert got.dtype == torch.bfloat16
    # Rounding to 8 bits: of the inputs, the weights' products and the sum.
    expected = rows.bfloat16().double() @ layer.weight.double().T + layer.bias.double()
    torch.testing.assert_close(got.double(), expected, rtol=0.02, atol=0.02)


def test_rows_that_do_not_lie_together_are_no_trouble():
    layer, rows = layer_of(20, 6), rows_of(20, 9).T
    torch.testing.assert_close(Product(layer)(rows), layer(rows), rtol=1e-5, atol=1e-5)
