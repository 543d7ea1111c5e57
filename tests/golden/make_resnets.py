"""Writes resnets.json: the reference libraries' image networks with weights from a hash, evaluated and trained.

Usage: python3 make_resnets.py [MODEL...] (needs torch, torchvision and timm). The hash and the schema are in README.md.
Everything is computed in double precision from float32 weights and inputs; a float32 run beside it tells how far two
float32 implementations may lie apart.
"""

import sys

import numpy as np
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cifar_resnet import CifarResNet
from common import write

MASK = (1 << 64) - 1


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def uniform(name, count):
    """count float32 values in [-1, 1): output i of splitmix64 seeded by fnv1a(name), its upper 24 bits."""
    with np.errstate(over="ignore"):
        z = np.uint64(fnv1a(name)) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def fill(model, gain):
    """Gives every tensor of the state_dict its values."""
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        value = uniform(name, tensor.numel())
        if tensor.dim() >= 2:
            value = value * np.sqrt(gain / (tensor.numel() // tensor.shape[0]))
        elif name.endswith("weight") or name.endswith("running_var"):
            value = 1 + 0.5 * value
        else:
            value = 0.1 * value
        tensor.copy_(torch.from_numpy(value.astype(np.float32)).reshape(tensor.shape))
    return model


def picture(shape, name="input"):
    """[N, H, W, C] values of the hash, in that order, as NCHW."""
    return torch.from_numpy(uniform(name, int(np.prod(shape))).astype(np.float32)).reshape(shape).permute(0, 3, 1, 2)


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling; `flatten` says in which order the last picture becomes a row."""

    def __init__(self, flatten):
        super().__init__()
        self.flatten = flatten
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = (x.permute(0, 2, 3, 1) if self.flatten == "hwc" else x).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def lite(name):
    return lambda: timm.create_model(f"tf_efficientnet_{name}", pretrained=False)


TV = torchvision.models
# name: (maker, the module whose input is the pooled features, gain, shapes, rate of training or None). Gains keep the
# activations in range; rates make three steps visible in the loss while rounding stays small (a ReLU that flips
# changes the gradient of these random deep networks by percents).
MODELS = {
    "resnet18": (TV.resnet18, "fc", 3, [[2, 64, 64, 3], [1, 97, 65, 3]], 1e-4),
    "resnet34": (TV.resnet34, "fc", 3, [[2, 64, 64, 3]], 1e-5),
    "resnet50": (TV.resnet50, "fc", 3, [[2, 64, 64, 3], [1, 75, 90, 3]], 1e-7),
    "mobilenet_v2": (TV.mobilenet_v2, "classifier", 6, [[2, 64, 64, 3], [1, 75, 61, 3]], 1e-5),
    "squeezenet1_1": (TV.squeezenet1_1, None, 6, [[2, 64, 64, 3], [1, 79, 65, 3]], 1e-2),
    "efficientnet_lite0": (lite("lite0"), "classifier", 6, [[2, 64, 64, 3], [1, 75, 61, 3]], 1e-5),
    "efficientnet_lite1": (lite("lite1"), "classifier", 6, [[2, 64, 64, 3]], None),
    "efficientnet_lite2": (lite("lite2"), "classifier", 6, [[2, 68, 68, 3]], None),
    "cifar_resnet20": (lambda: CifarResNet(3), "linear", 6, [[2, 32, 32, 3]], 1e-2),
    "lenet": (lambda: LeNet("hwc"), "fc3", 6, [[2, 28, 28, 1]], 1e-2),
    "lenet_chw": (lambda: LeNet("chw"), "fc3", 6, [[2, 28, 28, 1]], None),
}
MOMENTUM, WEIGHT_DECAY, LABELS = 0.9, 1e-4, [3, 1, 4, 1]


def forward(model, head, x):
    """Logits, and the head's input (or the mean of the last feature map over its pixels)."""
    kept = []
    module = getattr(model, head) if head else model.features
    hook = module.register_forward_hook(
        lambda _, inputs, output: kept.append(inputs[0] if head else output.mean((2, 3)))
    )
    logits = model(x)
    hook.remove()
    return logits, kept[0]


def difference(wide, narrow):
    return float((wide - narrow.double()).norm() / wide.norm())


def sums(rows, first):
    """The first values of each row, and its sums."""
    return {"first": rows[:, :first].tolist(), "sum": rows.sum(1).tolist(), "abs_sum": rows.abs().sum(1).tolist()}


def evaluate(make, head, gain, shape):
    results = []
    for kind in (torch.float64, torch.float32):
        with torch.no_grad():
            results.append(forward(fill(make(), gain).eval().to(kind), head, picture(shape).to(kind)))
    (logits, features), (logits32, _) = results
    return {
        "shape": shape,
        "logits": sums(logits, 50),
        "features": sums(features, 16),
        "float32_difference": difference(logits, logits32),
    }


def steps(make, gain, shape, rate, kind):
    """Losses of three SGD steps on one batch, the gradients of the first, and the state after the last."""
    model = fill(make(), gain).train().to(kind)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.SGD(model.parameters(), rate, MOMENTUM, weight_decay=WEIGHT_DECAY)
    losses, gradients = [], {}
    for _ in range(3):
        loss = F.cross_entropy(model(picture(shape).to(kind)), torch.tensor(LABELS))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        gradients = gradients or {n: p.grad.clone() for n, p in model.named_parameters()}
        optimizer.step()
    return losses, gradients, model.state_dict()


def train(make, gain, shape, rate):
    losses, gradients, state = steps(make, gain, shape, rate, torch.float64)
    losses32, gradients32, _ = steps(make, gain, shape, rate, torch.float32)
    names = list(gradients)
    running = [n for n in state if "running" in n]
    return {
        "shape": shape,
        "rate": rate,
        "losses": losses,
        "losses_float32_difference": [abs(a - b) / a for a, b in zip(losses, losses32, strict=True)],
        "first_gradients": {
            n: {
                "norm": gradients[n].norm().item(),
                "first": gradients[n].reshape(-1)[:4].tolist(),
                "float32_difference": difference(gradients[n], gradients32[n]),
            }
            for n in dict.fromkeys([*names[:2], names[len(names) // 2], *names[-2:]])
        },
        "running_statistics": {
            n: {"first": state[n][:4].tolist(), "sum": state[n].sum().item()}
            for n in dict.fromkeys(running[:2] + running[-2:])
        },
    }


def describe(name):
    make, head, gain, shapes, rate = MODELS[name]
    tensors = {n: t for n, t in make().state_dict().items() if not n.endswith("num_batches_tracked")}
    entry = {
        "model": name,
        "gain": gain,
        "tensors": len(tensors),
        "values": sum(t.numel() for t in tensors.values()),
        "names_fnv1a": f"{fnv1a(chr(10).join(sorted(tensors))):016x}",
        "eval": [evaluate(make, head, gain, shape) for shape in shapes],
    }
    if rate:
        entry["train"] = train(make, gain, [len(LABELS)] + shapes[0][1:], rate)
    for case in entry["eval"]:
        row = case["logits"]["first"][0]
        print(
            f"{name} {case['shape']}: logits {min(row):.3g} .. {max(row):.3g}, float32 {case['float32_difference']:.1e}"
        )
    if rate:
        differences = [f"{d:.0e}" for d in entry["train"]["losses_float32_difference"]]
        gradients = [f"{g['float32_difference']:.0e}" for g in entry["train"]["first_gradients"].values()]
        print(f"  losses {entry['train']['losses']}, float32 {differences}, gradients {gradients}")
    return entry


if __name__ == "__main__":
    torch.set_num_threads(2)
    chosen = sys.argv[1:] or list(MODELS)
    cases = [describe(name) for name in chosen]
    if chosen == list(MODELS):
        versions = [f"{m.__name__} {m.__version__.split('+')[0]}" for m in (torch, torchvision, timm)]
        head = {
            "schema": 1,
            "made_with": ", ".join(versions),
            "training": {"momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY, "labels": LABELS},
            "hash_check": {"name": "conv1.weight", "first": uniform("conv1.weight", 4).tolist()},
        }
        write("resnets.json", head, cases)
