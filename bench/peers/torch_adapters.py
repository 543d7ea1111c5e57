"""Ways of tuning few parameters in PyTorch, of the form and at the places of tl's transfer/adapters.hpp."""

import re

import torch
from torch import nn
from torch.nn import functional

RANK, ALPHA, WIDTH = 8, 16, 16
ATTENTION = r"layers\.\d+\.(query_key_value\.\d|output)"
BLOCKS = {"resnet18": r"layer\d\.\d+", "resnet20": r"layer\d\.\d+", "mobilenet_v2": r"features\.\d+",
          "efficientnet_lite0": r"blocks\.\d+\.\d+", "encoder": r"layers\.\d+\.(output|down)"}


def product(host, inputs, outputs, bias, stride=1):
    """A matrix product for what the host gives: Linear beside a linear layer, else a 1x1 convolution."""
    if isinstance(host, nn.Linear):
        return nn.Linear(inputs, outputs, bias)
    return nn.Conv2d(inputs, outputs, 1, stride, bias=bias)


class Lora(nn.Module):
    def __init__(self, layer):
        super().__init__()
        inputs, outputs = layer.weight.shape[1], layer.weight.shape[0]
        self.layer, self.a = layer, product(layer, inputs, RANK, False, getattr(layer, "stride", 1))
        self.b = product(layer, RANK, outputs, False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x):
        return self.layer(x) + ALPHA / RANK * self.b(self.a(x))


class Bottleneck(nn.Module):
    def __init__(self, layer, channels):
        super().__init__()
        self.layer, self.down, self.up = layer, product(layer, channels, WIDTH, True), product(layer, WIDTH, channels, True)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        y = self.layer(x)
        return y + self.up(functional.relu(self.down(y)))


class Ia3(nn.Module):
    def __init__(self, layer):
        super().__init__()
        shape = (-1,) if isinstance(layer, nn.Linear) else (-1, 1, 1)
        self.layer, self.scale = layer, nn.Parameter(torch.ones(layer.weight.shape[0]).view(shape))

    def forward(self, x):
        return self.layer(x) * self.scale


def replace(net, name, module):
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module)


def channels_of(net, names, x):
    """How many channels each module gives."""
    seen, hooks = {}, []
    for name in names:
        hook = lambda module, given, y, name=name: seen.__setitem__(name, y.shape[1 if y.dim() == 4 else -1])
        hooks.append(net.get_submodule(name).register_forward_hook(hook))
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return seen


def is_product(layer):
    return isinstance(layer, nn.Linear) or isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1


def tune(net, network, head, way, sample):
    """Leaves the head, and what the way of tuning adds or unfreezes, to learn; BatchNorm's statistics stay."""
    net.eval()
    net.requires_grad_(False)
    modules = [(name, module) for name, module in net.named_modules() if name and not f"{name}.".startswith(head)]
    if way in ("lora", "lora_attention"):
        for name, module in modules:
            if is_product(module) and (way == "lora" or re.fullmatch(ATTENTION, name)):
                replace(net, name, Lora(module))
    elif way == "bottleneck":
        blocks = [name for name, _ in modules if re.fullmatch(BLOCKS[network], name)]
        for name, channels in channels_of(net, blocks, sample).items():
            replace(net, name, Bottleneck(net.get_submodule(name), channels))
    elif way == "ia3":
        for name, module in modules:
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                replace(net, name, Ia3(module))
    elif way == "norms":
        for _, module in modules:
            if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
                module.requires_grad_(True)
    elif way == "biases":
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.endswith("bias"))
    for name, parameter in net.named_parameters():
        if name.startswith(head):
            parameter.requires_grad_(True)
