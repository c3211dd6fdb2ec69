"""Small networks of random weights that all matter, and their graphs."""

from __future__ import annotations

import onnx
import torch

from mrs.export.architectures.nafnet import NAFNet
from mrs.export.architectures.nafnet.graph import build_graph
from mrs.export.architectures.nafnet.module import ConditionalNAFNet
from mrs.export.graph_variant import GraphVariant

VARIANT = GraphVariant("moments", "weights")


def random_nafnet(
    arch: NAFNet, seed: int = 0, *, scale: float = 0.25, gains: float = 1.0, contrast: float | None = 0.1
) -> ConditionalNAFNet:
    """A network in evaluation mode; torch's own random numbers stay as they were.

    Args:
        arch: its shape.
        seed: of its weights.
        scale: standard deviation of all weights but the gains.
        gains: that of the residuals' gains, which are zero in a new network: blocks and times matter by them.
        contrast: factor of what the last layer adds to grey, for pictures that are neither black nor white whatever
            the network is given; None leaves it as it is drawn.
    """
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        net = ConditionalNAFNet(arch).eval()
        for name, parameter in net.named_parameters():
            parameter.copy_((gains if name.endswith(("beta", "gamma", ".g")) else scale) * torch.randn_like(parameter))
        if contrast is not None:
            net.ending.bias.fill_(0.5)
            net.ending.weight.mul_(contrast)
    return net


def nafnet_graph(net: ConditionalNAFNet, variant: GraphVariant = VARIANT) -> onnx.ModelProto:
    """Its graph, written down in one of the ways that there are."""
    state = {key: value.numpy() for key, value in net.state_dict().items()}
    return build_graph(state, net.arch, variant=variant)


def nafnet_bytes(net: ConditionalNAFNet, variant: GraphVariant = VARIANT) -> bytes:
    """That graph as a plan holds it."""
    return nafnet_graph(net, variant).SerializeToString()
