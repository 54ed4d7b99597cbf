"""Graphs of networks: nodes have torchvision's names, because layers in model files depend on them."""

import pytest
import torch
from sppnet.detector.convolutions.networks import build_without_values
from sppnet.detector.convolutions.tracing import named_nodes, trace
from torchvision.models.feature_extraction import get_graph_node_names


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "resnet18",
        "densenet121",
        "googlenet",
        "squeezenet1_1",
        "shufflenet_v2_x0_5",
        "mnasnet0_5",
        "mobilenet_v3_small",
        "efficientnet_b0",
        "efficientnet_lite0",
        "regnet_y_400mf",
        "convnext_tiny",
        "zf5",
        "sppnet_student",
        "sppnet_student_480",
    ],
)
def test_nodes_have_the_names_that_torchvision_gives_them(name):
    network = build_without_values(name)
    _, expected = get_graph_node_names(network, suppress_diff_warning=True)
    assert list(named_nodes(trace(network).graph)) == expected


def test_a_graph_computes_what_the_network_does():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout()).eval()
    images = torch.rand(1, 3, 9, 11)
    graph = trace(network)
    assert not graph.training
    assert torch.equal(graph(images), network(images))
