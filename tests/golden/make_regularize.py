"""Writes regularize.json: regularisers and mixed pictures from PyTorch in double precision, changed ones from torchvision.

Usage: python3 make_regularize.py (needs torch, torchvision and pillow). The schema is in README.md.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import RandAugment, _apply_op

from common import Values, Wave, write
from make_resize import hexadecimal, picture

CASES = []


def flat(tensor):
    return tensor.detach().reshape(-1).tolist()


def case(kind, name, options, inputs, value, leaves):
    """Adds a case of a scalar or tensor `value`; the gradient is that of its sum."""
    value.sum().backward()
    CASES.append(
        {
            "kind": kind,
            "case": name,
            "options": options,
            "inputs": {k: wave.spec() for k, wave in inputs.items()},
            "value": flat(value),
            "grads": {k: flat(leaf.grad) for k, leaf in leaves.items()},
        }
    )


def leaf(wave):
    return wave.tensor().requires_grad_()


def l2_sp():
    for name, alpha, beta in (("both", 0.3, 0.05), ("no head", 0.1, 0.0)):
        inputs = {
            "start": Wave([4, 3], 0.3, 1.1),
            "backbone": Wave([4, 3], 0.5, 0.9),
            "head": Wave([2, 4], 0.2, 1.7),
        }
        w, head = leaf(inputs["backbone"]), leaf(inputs["head"])
        value = alpha / 2 * torch.norm(w - inputs["start"].tensor()) ** 2 + beta / 2 * torch.norm(head) ** 2
        case("l2_sp", name, {"alpha": alpha, "beta": beta}, inputs, value, {"backbone": w, "head": head})


def attention(importance):
    """As tllib's example computes it: standardised with numpy's deviation, then softmax at temperature 5."""
    d = np.array(importance)
    return F.softmax(torch.from_numpy((d - d.mean()) / d.std()) / 5, 0)


def delta():
    importance = [0.3, -0.1, 0.02, 1.4]
    CASES.append({"kind": "attention", "importance": importance, "value": flat(attention(importance))})
    for name, weighed in (("uniform", False), ("attention", True)):
        inputs = {
            "map0": Wave([3, 2, 5, 4], 0.1, 0.7),
            "source0": Wave([3, 2, 5, 4], 0.4, 0.8),
            "map1": Wave([3, 6], 0.6, 1.3),
            "source1": Wave([3, 6], 0.9, 0.4),
        }
        maps = [leaf(inputs["map0"]), leaf(inputs["map1"])]
        value = torch.zeros([], dtype=torch.float64)
        for i, fm_tgt in enumerate(maps):
            fm_src = inputs[f"source{i}"].tensor()
            n, c = fm_tgt.shape[0], fm_tgt.shape[-1]
            places = fm_tgt.numel() // n // c
            # The formula of tllib's AttentionBehavioralRegularization, of the mean over pictures.
            distance = torch.norm((fm_tgt - fm_src).reshape(n, places, c), 2, 1)
            weights = attention(importance if i == 0 else importance + [0.5, -0.7]) if weighed else torch.full([c], 1 / c)
            value = value + 0.5 * torch.sum(c * weights * distance**2 / places) / n
        case("delta", name, {"attention": weighed}, inputs, value, {"map0": maps[0], "map1": maps[1]})


def bss():
    for name, shape, k in (("wide", [4, 9], 1), ("wide, two", [5, 12], 2), ("tall", [9, 4], 1), ("tall, two", [7, 3], 2), ("all", [3, 3], 3)):
        # A sine of the index itself would have rank 2.
        waves = Values(np.round(np.sin(0.3 + 1.234 * np.arange(math.prod(shape)) ** 1.5) + 0.2, 6), shape)
        inputs, f = {"features": waves}, leaf(waves)
        s = torch.linalg.svd(f.t(), full_matrices=False)[1]
        value = sum(s[len(s) - 1 - i] ** 2 for i in range(k))
        case("bss", name, {"k": k}, inputs, value, {"features": f})


def stoch_norm():
    inputs = {"x": Wave([3, 2, 2, 5], 0.2, 1.9, 1.5, 0.4), "weight": Wave([5], 0.7, 1.1, 0.3, 1.0), "bias": Wave([5], 0.1, 0.6)}
    for name, training in (("running", False), ("batch", True)):
        x, weight, bias = (leaf(inputs[k]) for k in ("x", "weight", "bias"))
        mean, var = Wave([5], 0.3, 1.0, 0.5).tensor(), Wave([5], 0.8, 1.4, 0.4, 1.2).tensor()
        y = F.batch_norm(x.permute(0, 3, 1, 2), mean, var, weight, bias, training, 0.1, 1e-5).permute(0, 2, 3, 1)
        wave = Wave([3, 2, 2, 5], 0.5, 0.3)
        (y * wave.tensor()).sum().backward()
        CASES.append(
            {
                "kind": "stoch_norm",
                "case": name,
                "inputs": {k: w.spec() for k, w in inputs.items()},
                "cotangent": wave.spec(),
                "value": flat(y),
                "running_mean": flat(mean),
                "running_var": flat(var),
                "grads": {"x": flat(x.grad), "weight": flat(weight.grad), "bias": flat(bias.grad)},
            }
        )


def co_tuning():
    logits, y = Wave([6, 4], 0.4, 1.3, 2.0).tensor(), torch.tensor([0, 2, 1, 0, 2, 0])
    p = F.softmax(logits, 1)
    relationship = torch.stack([p[y == c].mean(0) for c in range(3)])
    CASES.append(
        {"kind": "relationship", "logits": Wave([6, 4], 0.4, 1.3, 2.0).spec(), "labels": y.tolist(), "value": flat(relationship)}
    )
    inputs = {"logits": Wave([6, 4], 0.9, 0.7, 1.5)}
    for name, targets in (("labels", F.one_hot(y, 3).double()), ("mixed", 0.3 * F.one_hot(y, 3) + 0.7 * F.one_hot(y.flip(0), 3).double())):
        x = leaf(inputs["logits"])
        value = torch.sum(-(targets @ relationship) * F.log_softmax(x, 1), 1).mean()
        case("co_tuning", name, {"targets": flat(targets)}, inputs, value, {"logits": x})


def distillation():
    inputs = {"student": Wave([3, 5], 0.2, 1.1, 2.0), "teacher": Wave([3, 5], 0.8, 0.6, 3.0)}
    for temperature in (1.0, 2.0, 4.0):
        x = leaf(inputs["student"])
        teacher = F.softmax(inputs["teacher"].tensor() / temperature, 1)
        value = temperature**2 * F.kl_div(F.log_softmax(x / temperature, 1), teacher, reduction="batchmean")
        case("distillation", f"T = {temperature:g}", {"temperature": temperature}, inputs, value, {"student": x})


def mixing():
    x, y, partners = Wave([3, 4, 5, 2], 0.4, 0.9), torch.tensor([0, 2, 1]), [2, 0, 1]
    labels = F.one_hot(y, 3).double()
    lam = 0.3
    CASES.append(
        {
            "kind": "mix_up",
            "x": x.spec(),
            "labels": y.tolist(),
            "partners": partners,
            "lambda": lam,
            "value": flat(lam * x.tensor() + (1 - lam) * x.tensor()[partners]),
            "mixed": flat(lam * labels + (1 - lam) * labels[partners]),
        }
    )
    left, top, right, bottom = 1, 2, 4, 4
    cut = x.tensor().clone()
    cut[:, top:bottom, left:right] = x.tensor()[partners][:, top:bottom, left:right]
    lam = 1 - (right - left) * (bottom - top) / (5 * 4)
    CASES.append(
        {
            "kind": "cut_mix",
            "x": x.spec(),
            "labels": y.tolist(),
            "partners": partners,
            "rectangle": [left, top, right - left, bottom - top],
            "value": flat(cut),
            "mixed": flat(lam * labels + (1 - lam) * labels[partners]),
        }
    )


def rand_augment():
    """Every operation of torchvision's RandAugment at some magnitudes, for both directions."""
    space = RandAugment()._augmentation_space
    for pattern, height, width, magnitudes in (("waves", 9, 11, (9,)), ("ramp", 8, 7, (30, 3))):
        for number, (name, (values, signed)) in enumerate(space(31, (height, width)).items()):
            for m in magnitudes:
                for sign in (1, -1) if signed else (1,):
                    image = picture(pattern, height, width, 3)
                    magnitude = float(values[m].item()) if values.ndim > 0 else 0.0
                    result = _apply_op(image, name, sign * magnitude, InterpolationMode.NEAREST, None)
                    CASES.append(
                        {
                            "kind": "rand_augment",
                            "operation": number,
                            "name": name,
                            "magnitude": m,
                            "sign": sign if signed else 0,
                            "pattern": pattern,
                            "source": [height, width, 3],
                            "bytes": hexadecimal(result),
                        }
                    )
    thresholds = space(31, (8, 8))["Solarize"][0]
    assert all(math.ceil(thresholds[m].item()) == math.ceil(255 * (30 - m) / 30) for m in range(31))
    posterize = space(31, (8, 8))["Posterize"][0]
    CASES.append({"kind": "posterize_bits", "bits": [int(v) for v in posterize]})


def main():
    for make in (l2_sp, delta, bss, stoch_norm, co_tuning, distillation, mixing, rand_augment):
        make()
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    write("regularize.json", {"schema": 1, "made_with": versions}, CASES, digits=12)


if __name__ == "__main__":
    main()
