"""Writes peft.json: LoRA, bottleneck adapters and (IA)^3 from the formulas of their papers, by PyTorch's autograd.

Usage: python3 make_peft.py (needs torch). The schema is in README.md. Each case is one layer with its adapter: output,
gradients, and both again after one step of SGD on the adapter's parameters.
"""

import math

import torch
from torch.nn import functional

from common import Wave, write

RATE = 0.1


def listed(tensor):
    return list(tensor.detach().reshape(-1).numpy())


def layer(kind, x, weight, bias):
    """A linear layer, or a convolution of [N, H, W, C] by [Out, kH, kW, In]."""
    if kind == "linear":
        return functional.linear(x, weight, bias)
    y = functional.conv2d(x.permute(0, 3, 1, 2), weight.permute(0, 3, 1, 2), bias)
    return y.permute(0, 2, 3, 1)


def lora(kind, t, options):
    rank = t["a"].shape[0]
    scale = options["alpha"] / (math.sqrt(rank) if options["rank_stabilised"] else rank)
    y = layer(kind, t["x"], t["weight"], t.get("bias"))
    return y + scale * (t["x"] @ t["a"].T) @ t["b"].T


def bottleneck(kind, t, options):
    h = layer(kind, t["x"], t["weight"], t.get("bias"))
    act = {"relu": torch.relu, "gelu": functional.gelu}[options["activation"]]
    inner = act(functional.linear(h, t["down.weight"], t["down.bias"]))
    return h + functional.linear(inner, t["up.weight"], t["up.bias"])


def ia3(kind, t, options):
    return t["scale"] * layer(kind, t["x"], t["weight"], t.get("bias"))


def case(name, forward, kind, base, adapter, cotangent, options):
    tensors = {n: w.tensor() for n, w in (base | adapter).items()}
    learnt = ["x"] + list(adapter)
    for n in learnt:
        tensors[n].requires_grad_(True)
    y = forward(kind, tensors, options)
    y.backward(cotangent.tensor())
    out = {
        "case": name, "kind": forward.__name__, "layer": kind, "options": options, "rate": RATE,
        "base": {n: w.spec() for n, w in base.items()}, "adapter": {n: w.spec() for n, w in adapter.items()},
        "cotangent": cotangent.spec(), "output": listed(y),
        "grads": {n: listed(tensors[n].grad) for n in learnt},
    }
    optimizer = torch.optim.SGD([tensors[n] for n in adapter], lr=RATE)
    optimizer.step()
    out["after"] = {n: listed(tensors[n]) for n in adapter}
    out["output_after"] = listed(forward(kind, tensors, options))
    return out


X = Wave([5, 7], 0.3, 1.7, 0.8)
LINEAR = {"x": X, "weight": Wave([6, 7], 0.9, 2.3, 0.5), "bias": Wave([6], 0.1, 0.7, 0.3)}
MAP = Wave([2, 3, 4, 6], 0.4, 1.9, 0.9)
POINTWISE = {"x": MAP, "weight": Wave([5, 1, 1, 6], 1.2, 2.1, 0.6)}
WINDOW = {"x": MAP, "weight": Wave([4, 2, 2, 6], 0.2, 1.3, 0.5)}
BIASED = POINTWISE | {"bias": Wave([5], 0.6, 1.1, 0.4)}
PAIR = {"a": Wave([3, 7], 0.5, 2.7, 0.4), "b": Wave([6, 3], 0.8, 1.4, 0.6)}
PAIR_OF_MAP = {"a": Wave([2, 6], 0.7, 2.9, 0.4), "b": Wave([5, 2], 0.3, 1.6, 0.5)}


def small_network(channels, width):
    return {"down.weight": Wave([width, channels], 0.2, 1.1, 0.5), "down.bias": Wave([width], 0.4, 0.8, 0.3),
            "up.weight": Wave([channels, width], 0.6, 2.2, 0.4), "up.bias": Wave([channels], 0.9, 1.5, 0.2)}


def factors(channels):
    return {"scale": Wave([channels], 0.1, 1.2, 0.5, 1.0)}


OUT = Wave([5, 6], 0.7, 0.6, 0.5)
OUT_MAP = Wave([2, 3, 4, 5], 0.2, 0.9, 0.5)
SCALED = {"alpha": 6.0, "rank_stabilised": False}
STABLE = {"alpha": 4.0, "rank_stabilised": True}
CASES = [
    case("lora", lora, "linear", LINEAR, PAIR, OUT, SCALED),
    case("lora, rank-stabilised", lora, "linear", LINEAR, PAIR, OUT, STABLE),
    case("lora", lora, "conv", POINTWISE, PAIR_OF_MAP, OUT_MAP, SCALED),
    case("lora with bias", lora, "conv", BIASED, PAIR_OF_MAP, OUT_MAP, STABLE),
    case("bottleneck", bottleneck, "linear", LINEAR, small_network(6, 3), OUT, {"activation": "relu"}),
    case("bottleneck", bottleneck, "conv", POINTWISE, small_network(5, 4), OUT_MAP, {"activation": "gelu"}),
    case("ia3", ia3, "linear", LINEAR, factors(6), OUT, {}),
    case("ia3", ia3, "conv", POINTWISE, factors(5), OUT_MAP, {}),
    case("ia3 with bias", ia3, "conv", BIASED, factors(5), OUT_MAP, {}),
    case("ia3 of a window", ia3, "conv", WINDOW, factors(4), Wave([2, 2, 3, 4], 0.5, 0.8, 0.5), {}),
]
write("peft.json", {"schema": 1, "made_with": f"torch {torch.__version__}"}, CASES)
