"""The fc layers: results, initial weights, and that the state describes them completely."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from reference.head import embedded, linear, rectified
from sppnet.data.errors import InputError
from sppnet.detector.convolutions.backbone import Backbone
from sppnet.detector.head.head import Head
from sppnet.detector.head.pretrained import start_from_classifier
from sppnet.detector.pooling.spp import SpatialPyramidPooling

LEVELS = (1, 2, 3, 6)


def network(name, channels, feeds_classifier=True):
    """All that a start asks of a backbone."""
    return SimpleNamespace(name=name, channels=channels, feeds_classifier=feeds_classifier)


def rows_of(count, width, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32))


@pytest.fixture(scope="module")
def alexnet():
    """AlexNet with random weights, and its conv5 map (1, 256, 13, 13) of a random image."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torchvision.models.alexnet(weights=None).eval()
    image = torch.randn(1, 3, 224, 224, generator=generator)
    return network, image


def test_layers_equal_the_sums_they_stand_for():
    head = Head(12, 5, 3, seed=4, scale=0.5).eval()
    for bias in (head.fc6.bias, head.fc7.bias, head.fc8.bias):
        torch.nn.init.normal_(bias, generator=torch.Generator().manual_seed(1))
    rows = rows_of(4, 12)
    with torch.no_grad():
        logits, fc6, fc7 = head(rows), head.output(rows, "fc6"), head.output(rows, "fc7")
    layers = [(layer.weight.detach(), layer.bias.detach()) for layer in (head.fc6, head.fc7, head.fc8)]
    for i, row in enumerate(rows):
        six = rectified(linear([0.5 * float(x) for x in row], *layers[0]))
        seven = rectified(linear(six, *layers[1]))
        np.testing.assert_allclose(fc6[i], six, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fc7[i], seven, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logits[i], linear(seven, *layers[2]), rtol=1e-5, atol=1e-6)
    assert (head.width("fc6"), head.width("fc7"), head.width("fc8")) == (5, 5, 4)


def test_no_rows_keep_their_shape():
    head = Head(12, 5, 3).eval()
    assert head.output(rows_of(0, 12), "fc7").shape == (0, 5)
    assert head(rows_of(0, 12)).shape == (0, 4)


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match="fc6 and fc7, not 'fc9'"):
        Head(12, 5, 3).output(rows_of(1, 12), "fc9")


def test_rows_of_another_width_are_refused():
    """Also where the columns in use would fit."""
    head = Head(12, 5, 3).eval()
    with torch.no_grad():
        head.fc6.weight[:, 8:] = 0
    for width in (11, 13):
        with pytest.raises(ValueError, match=rf"\(N, 12\), not \(2, {width}\)"):
            head.output(rows_of(2, width), "fc6")


def test_layers_that_a_state_ended_before_are_not_made_up():
    head = Head.from_state(Head(12, 5, 3).state("fc6"))
    with pytest.raises(ValueError, match="this head has no fc7"):
        head.output(rows_of(1, 12), "fc7")
    with pytest.raises(ValueError, match="this head has no fc8"):
        head(rows_of(1, 12))


def test_scale_is_exact_with_rounded_weights():
    """A scale between two bfloat16 numbers: rounded itself, it would make everything 0.4 % smaller."""
    head = Head(6, 1, 1, scale=1 + 1 / 256).eval()
    with torch.no_grad():
        head.fc6.weight.fill_(1)
    state = {name: value.bfloat16() if name != "scale" else value for name, value in head.state().items()}
    # 255 * 257 / 256 is 255.996, which rounds to 256.
    rows = torch.tensor([[255.0, 0, 0, 0, 0, 0]])
    assert Head.from_state(state).output(rows, "fc6").item() == 256


def test_random_weights_are_the_seeds():
    before = torch.random.get_rng_state()
    a, b, other = Head(400, 50, 3, seed=1), Head(400, 50, 3, seed=1), Head(400, 50, 3, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(a.fc6.weight, b.fc6.weight)
    assert not torch.equal(a.fc6.weight, other.fc6.weight)
    assert float(a.fc6.weight.detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert float(a.fc8.weight.detach().std()) == pytest.approx(0.01, rel=0.2)
    assert not any(bias.detach().any() for bias in (a.fc6.bias, a.fc7.bias, a.fc8.bias))


def test_dropout_leaves_out_only_while_learning():
    head = Head(12, 50, 3, dropout=0.5)
    rows = rows_of(6, 12)
    torch.manual_seed(0)
    first = head(rows)
    torch.manual_seed(0)
    assert torch.equal(first, head(rows))
    assert not torch.equal(first, head(rows))
    head.eval()
    assert torch.equal(head(rows), head(rows))


def test_state_is_all_there_is():
    head = Head(12, 5, 3, seed=1, scale=0.25).eval()
    rows = rows_of(4, 12)
    for upto, last in (("fc6", "fc6"), ("fc7", "fc7"), ("fc8", "fc7")):
        again = Head.from_state(head.state(upto))
        assert torch.equal(again.output(rows, last), head.output(rows, last))
        assert set(again.state()) == set(head.state(upto))
    assert set(head.state("fc6")) == {"scale", "fc6.weight", "fc6.bias"}
    assert torch.equal(Head.from_state(head.state())(rows), head(rows))


def test_states_that_do_not_fit_are_refused():
    state = Head(12, 5, 3).state()
    with pytest.raises(InputError, match=r"'fc6\.bias' is missing"):
        Head.from_state({name: value for name, value in state.items() if name != "fc6.bias"})
    with pytest.raises(InputError, match="'scale' is missing"):
        Head.from_state({name: value for name, value in state.items() if name != "scale"})
    with pytest.raises(InputError, match="fc7 takes 7 numbers, gets 5"):
        Head.from_state(state | {"fc7.weight": torch.zeros(5, 7)})
    with pytest.raises(InputError, match=r"\(5, 5\) weights, \(4,\) biases"):
        Head.from_state(state | {"fc7.bias": torch.zeros(4)})
    with pytest.raises(InputError, match=r"weights of shape \(5,\)"):
        Head.from_state(state | {"fc7.weight": torch.zeros(5)})
    with pytest.raises(InputError, match=r"one number, not \(3,\)"):
        Head.from_state(state | {"scale": torch.zeros(3)})
    with pytest.raises(InputError, match=r"do not have a tensor 'fc9\.weight'"):
        Head.from_state(state | {"fc9.weight": torch.zeros(3, 3)})
    with pytest.raises(InputError, match="there is fc8 without fc7"):
        Head.from_state({name: value for name, value in state.items() if not name.startswith("fc7")})
    with pytest.raises(InputError, match=r"one precision, not torch\.bfloat16 and torch\.float32"):
        Head.from_state(state | {"fc6.weight": state["fc6.weight"].bfloat16()})


def test_columns_without_a_weight_are_not_multiplied():
    whole = Head(30, 5, 3, seed=1).eval()
    with torch.no_grad():
        whole.fc6.weight[:, :10] = 0
        whole.fc6.weight[:, 25:] = 0
        whole.fc6.weight[:, 17] = 0
    rows = rows_of(4, 30)
    expected = whole.output(rows, "fc7")
    # What is left out is not even looked at: NaN times zero would show.
    rows[:, :10] = torch.nan
    rows[:, 25:] = torch.nan
    np.testing.assert_allclose(whole.output(rows, "fc7"), expected, rtol=1e-6)
    whole.train()
    with torch.no_grad():
        whole.fc6.weight[:, 3] = 1
    assert whole.eval().output(rows, "fc7").isnan().any()


def test_weights_all_zero_give_the_biases():
    head = Head(6, 2, 1).eval()
    with torch.no_grad():
        head.fc6.weight.zero_()
        head.fc6.bias.fill_(3)
    assert head.output(rows_of(2, 6), "fc6").tolist() == [[3, 3], [3, 3]]


def test_pretrained_layer_stands_in_the_block_of_its_level():
    """AlexNet's classifier with three outputs in the place of 4,096."""
    generator = torch.Generator().manual_seed(0)
    state = {
        "classifier.1.weight": torch.randn(3, 256 * 36, generator=generator).half(),
        "classifier.1.bias": torch.randn(3, generator=generator),
        "classifier.4.weight": torch.randn(3, 3, generator=generator),
        "classifier.4.bias": torch.randn(3, generator=generator),
    }
    for levels in (LEVELS, (6, 1), (6, 2, 6)):
        head = start_from_classifier(network("alexnet", 256), state, levels, classes=4)
        expected = np.array(embedded(state["classifier.1.weight"].numpy(), 256, 6, levels), np.float32)
        np.testing.assert_array_equal(head.fc6.weight.detach(), expected)
    assert torch.equal(head.fc7.weight, state["classifier.4.weight"])
    assert head.fc8.weight.shape == (5, 3)
    assert head.scale == 1
    assert head.pretrained
    assert all(parameter.requires_grad for parameter in head.parameters())
    # Learning leaves the tensors given as they are.
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_classifier_of_other_shapes_is_refused():
    state = {
        "classifier.1.weight": torch.zeros(3, 100),
        "classifier.1.bias": torch.zeros(3),
        "classifier.4.weight": torch.zeros(3, 3),
    }
    with pytest.raises(InputError, match=r"1 of the classifier's tensors are missing: classifier\.4\.bias"):
        start_from_classifier(network("alexnet", 256), state, LEVELS, classes=2)
    with pytest.raises(InputError, match=r"classifier\.1\.weight is \(3, 100\), expected \(3, 9216\)"):
        start_from_classifier(network("alexnet", 256), state | {"classifier.4.bias": torch.zeros(3)}, LEVELS, classes=2)


def test_weights_without_the_classifier_have_nothing_to_start_from():
    assert (
        start_from_classifier(network("alexnet", 256), {"features.0.bias": torch.zeros(64)}, LEVELS, classes=2) is None
    )


def test_alexnet_computes_what_it_did(alexnet):
    """On 13 x 13 cells level 6 is the network's own pooling, 3 x 3 cells every 2: the function is unchanged."""
    whole, image = alexnet
    backbone = Backbone("alexnet", weights=whole.state_dict())
    head = start_from_classifier(backbone, whole.state_dict(), LEVELS, classes=6).eval()
    with torch.no_grad():
        conv5 = backbone(image)
        assert conv5.shape[2:] == (13, 13)
        rows = SpatialPyramidPooling(LEVELS)(conv5)
        pooled = torch.flatten(whole.avgpool(whole.features(image)), 1)
        expected6 = whole.classifier[:3](pooled)
        expected7 = whole.classifier[:6](pooled)
    np.testing.assert_allclose(head.output(rows, "fc6"), expected6, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(head.output(rows, "fc7"), expected7, rtol=1e-4, atol=1e-6)


def test_vgg_takes_a_pyramid_with_its_level():
    """On 14 x 14 cells level 7 is VGG's last pooling; the classifier's size is VGG's, its width is not."""
    generator = torch.Generator().manual_seed(0)
    state = {
        "classifier.0.weight": 0.01 * torch.randn(8, 512 * 49, generator=generator),
        "classifier.0.bias": torch.randn(8, generator=generator),
        "classifier.3.weight": torch.randn(8, 8, generator=generator),
        "classifier.3.bias": torch.randn(8, generator=generator),
    }
    head = start_from_classifier(network("vgg11", 512), state, (1, 2, 3, 7), classes=2).eval()
    conv5 = torch.randn(2, 512, 14, 14, generator=generator).relu()
    pooled = torch.flatten(torch.nn.functional.max_pool2d(conv5, 2, 2), 1)
    expected = torch.relu(pooled @ state["classifier.0.weight"].T + state["classifier.0.bias"])
    rows = SpatialPyramidPooling((1, 2, 3, 7))(conv5)
    np.testing.assert_allclose(head.output(rows, "fc6"), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"vgg11's fc layers take 7 x 7 bins.* has no level 7; .* such as 1,2,3,7"):
        start_from_classifier(network("vgg11", 512), state, LEVELS, classes=2)


@pytest.mark.parametrize(
    ("name", "channels"), [("squeezenet1_1", 512), ("mobilenet_v2", 1280), ("resnet18", 512), ("zf5", 256)]
)
def test_networks_without_fc_layers_have_nothing_to_start_from(name, channels):
    assert start_from_classifier(network(name, channels), {}, LEVELS, classes=2) is None


def test_earlier_maps_have_nothing_to_start_from(alexnet):
    """features.9, say, has as many channels as conv5, but its successor was not trained on it."""
    state = alexnet[0].state_dict()
    assert [Backbone("alexnet", state, layer).feeds_classifier for layer in ("features.9", "features.11")] == [
        False,
        True,
    ]
    assert start_from_classifier(network("alexnet", 256, False), state, LEVELS, classes=2) is None


def test_untrained_networks_have_nothing_to_start_from():
    assert start_from_classifier(network("alexnet", 256), "none", LEVELS, classes=2) is None


def test_outputs_follow_weights_that_change():
    head, rows = Head(12, 8, 3).eval(), torch.rand(5, 12)
    before = head.output(rows, "fc7")
    other = Head(12, 8, 3, seed=1).eval().output(rows, "fc7")
    assert not torch.equal(before, other)
    head.load_state_dict(Head(12, 8, 3, seed=1).state_dict())
    torch.testing.assert_close(head.eval().output(rows, "fc7"), other)
    assert head.bfloat16().output(rows, "fc7").dtype == torch.float32
    assert head.dtype == torch.bfloat16
    # Bfloat16 has 8 bits.
    torch.testing.assert_close(head.output(rows, "fc7"), other, rtol=0.05, atol=0.05)
