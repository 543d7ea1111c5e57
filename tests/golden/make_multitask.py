"""Writes multitask.json: two tasks on shared features, balanced by uncertainty and by GradNorm.

Usage: python3 make_multitask.py (needs torch). The schema is in README.md. Written from the formulas of Kendall, Gal and
Cipolla (2018) and Chen et al. (2018), in double precision.
"""

import torch

from common import Wave, write

SAMPLES, FEATURES, CLASSES = 6, 5, (3, 4)
X = Wave([SAMPLES, FEATURES], 0.4, 2.1, 1.0)
HEAD = Wave([sum(CLASSES), FEATURES], 0.9, 1.3, 0.5)
LABELS = [[0, 3], [1, -100], [2, 0], [-100, 1], [0, 2], [1, 3]]
LOG_VARIANCE = [0.3, -0.5]
RATE, BALANCE_RATE, ALPHA, STEPS = 0.5, 0.025, 1.5, 6


def means(output, labels):
    """The mean cross-entropy of each task over the samples that have its label."""
    out, first = [], 0
    for task, count in enumerate(CLASSES):
        known = labels[:, task] >= 0
        block = output[:, first : first + count]
        out.append(torch.nn.functional.cross_entropy(block[known], labels[known, task]))
        first += count
    return torch.stack(out)


def uncertainty():
    x, labels = X.tensor(), torch.tensor(LABELS)
    head = HEAD.tensor().requires_grad_()
    s = torch.tensor(LOG_VARIANCE, dtype=torch.float64, requires_grad=True)
    loss = (torch.exp(-s) * means(x @ head.T, labels) + s / 2).sum()
    loss.backward()
    return {"kind": "uncertainty", "loss": loss.item(), "grad_head": head.grad.reshape(-1).tolist(), "grad_s": s.grad.tolist()}


def grad_norm():
    x, labels = X.tensor(), torch.tensor(LABELS)
    head = HEAD.tensor()
    weights, first, trace = torch.ones(2, dtype=torch.float64), None, []
    for _ in range(STEPS):
        head = head.detach().requires_grad_()
        z = x.clone().requires_grad_()
        losses = means(z @ head.T, labels)
        norms = torch.stack([torch.autograd.grad(loss, z, retain_graph=True)[0].norm() for loss in losses])
        (weights * losses).sum().backward()
        first = losses.detach() if first is None else first
        progress = losses.detach() / first
        target = (weights * norms).mean() * (progress / progress.mean()) ** ALPHA
        head = head - RATE * head.grad
        weights = torch.clamp(weights - BALANCE_RATE * torch.sign(weights * norms - target) * norms, min=1e-3)
        weights = weights * 2 / weights.sum()
        trace.append({"losses": losses.tolist(), "weights": weights.tolist()})
    return {"kind": "grad_norm", "steps": trace, "head": head.reshape(-1).tolist()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(
        "multitask.json",
        {
            "schema": 1,
            "made_with": "torch " + torch.__version__.split("+")[0],
            "x": X.spec(),
            "head": HEAD.spec(),
            "classes": CLASSES,
            "labels": LABELS,
            "log_variance": LOG_VARIANCE,
            "rate": RATE,
            "balance_rate": BALANCE_RATE,
            "alpha": ALPHA,
        },
        [uncertainty(), grad_norm()],
        12,
    )
