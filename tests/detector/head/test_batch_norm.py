"""The fc layers with batch norms, and the head made from them."""

import pytest
import torch
from sppnet.detector.head.batch_norm import finished_head, learning_layers
from sppnet.detector.head.head import Head
from torch import nn
from torch.nn import functional


def taught(normalised, width_in=20):
    """Layers that have learnt for a few steps from rows that are positive and differ in size, as pooled ones are."""
    generator = torch.Generator().manual_seed(1)
    head = Head(width_in, 12, 4, dropout=0.2, seed=2, background=False)
    layers = learning_layers(head, normalised).train()
    optimizer = torch.optim.SGD(layers.parameters(), lr=0.05)
    scale = torch.logspace(-1, 1, width_in)
    for _ in range(6):
        rows = scale * (1 + torch.rand(16, width_in, generator=generator))
        labels = torch.randint(4, (16,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(layers(rows), labels).backward()
        optimizer.step()
    return layers.eval(), scale * (1 + torch.rand(9, width_in, generator=generator))


@pytest.mark.parametrize("normalised", [True, False])
def test_the_finished_head_computes_what_the_layers_do(normalised):
    layers, rows = taught(normalised)
    head = finished_head(layers)
    with torch.no_grad():
        expected = layers(rows)
        torch.testing.assert_close(head(rows), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(head.fc8(head.output(rows, "fc7")).detach(), expected, rtol=1e-5, atol=1e-5)
    assert expected.std() > 0.01
    assert not head.training
    assert not any(parameter.requires_grad for parameter in head.parameters())
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if normalised:
        # The norms count: each of them, left out, would give another answer.
        for place, layer in enumerate(layers):
            if isinstance(layer, nn.BatchNorm1d):
                without = nn.Sequential(*layers[:place], *layers[place + 1 :])
                assert (without(rows) - expected).abs().max() > 1e-3
    else:
        assert [layer.weight.tolist() for layer in linear] == [
            layer.weight.tolist() for layer in (head.fc6, head.fc7, head.fc8)
        ]


def test_the_finished_head_by_hand():
    layers, rows = taught(normalised=True)
    first, fc6, norm6, _, _, fc7, norm7, _, _, fc8 = layers

    def normal(values, norm):
        values = (values - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        return values * norm.weight + norm.bias if norm.affine else values

    with torch.no_grad():
        values = normal(fc6(normal(rows, first)), norm6).clamp(min=0)
        values = fc8(normal(fc7(values), norm7).clamp(min=0))
    torch.testing.assert_close(finished_head(layers)(rows), values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_head_shares_nothing_and_changes_nothing(normalised):
    layers, rows = taught(normalised)
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    head = finished_head(layers)
    answer = head(rows)
    assert all(torch.equal(before[name], value) for name, value in layers.state_dict().items())
    for parameter in layers.parameters():
        parameter.data.zero_()
    assert torch.equal(head(rows), answer)


def test_learning_layers_share_the_heads_weights():
    head = Head(6, 5, 3, dropout=0.4, background=False)
    layers = learning_layers(head, normalised=False)
    assert layers[0] is head.fc6
    assert layers[-1] is head.fc8
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.4, 0.4]
    assert head.fc8.out_features == 3


def test_bins_that_never_change_are_not_blown_up():
    layers = learning_layers(Head(6, 5, 3, background=False), normalised=True).train()
    for _ in range(200):
        layers(torch.tensor([1.0, 2, 3, 0, 0, 0]) * torch.ones(4, 1))
    head = finished_head(layers.eval())
    rows = torch.full((2, 6), 0.01)
    assert head(rows).isfinite().all()
    torch.testing.assert_close(head(rows), layers(rows), rtol=1e-4, atol=1e-4)
