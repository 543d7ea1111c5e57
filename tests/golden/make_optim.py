"""Writes optim.json: PyTorch's optimizers, schedules and gradient clipping, step by step.

Usage: python3 make_optim.py (needs torch). The schema is in README.md. Gradients don't depend on the parameters, so
that a trace compares the update rule alone, to the bit of rounding.
"""

import math

import numpy as np
import torch

from common import Wave, write

CASES = []
STEPS = 12
PARAMETERS = {"w": Wave([3, 7], 0.3, 1.7, 0.8), "b": Wave([5], 1.1, 0.9, 0.2)}
GRADIENTS = {"w": Wave([3, 7], 0.5, 2.4, 0.6), "b": Wave([5], 0.2, 1.3, 0.4)}
PHASE = 0.9  # of the gradient, per step


def floats(tensor):
    return list(tensor.detach().reshape(-1).numpy())


def gradient(name, step, scale):
    wave = GRADIENTS[name]
    return (Wave(wave.shape, wave.a + PHASE * step, wave.b, wave.c * scale).tensor()).float()


def trace(case, optimizer, options, groups=None, rates=None, joins=None, scale=1.0):
    """groups: name -> own options. rates: the learning rate of each step. joins: name -> the step it is added at."""
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    parameters = {n: torch.nn.Parameter(w.tensor().float()) for n, w in PARAMETERS.items()}
    groups, joins = groups or {}, joins or {}
    group = {n: {"params": [p]} | groups.get(n, {}) for n, p in parameters.items()}
    tuned = kinds[optimizer]([group[n] for n in parameters if n not in joins], foreach=False, **options)
    steps = []
    for step in range(STEPS):
        for name in [n for n, s in joins.items() if s == step]:
            tuned.add_param_group(group[name])
        if rates:
            for entry in tuned.param_groups:
                entry["lr"] = rates[step]
        for name, parameter in parameters.items():
            parameter.grad = gradient(name, step, scale)
        tuned.step()
        steps.append({n: floats(p) for n, p in parameters.items()})
    entry = {"kind": "trace", "case": case, "optimizer": optimizer, "options": options}
    for key, value in (("groups", groups), ("rates", rates), ("joins", joins)):
        if value:
            entry[key] = value
    CASES.append(entry | {"gradient_scale": scale, "steps": steps})


def traces():
    trace("plain", "sgd", {"lr": 0.1})
    trace("weight_decay", "sgd", {"lr": 0.1, "weight_decay": 0.05})
    trace("momentum", "sgd", {"lr": 0.1, "momentum": 0.9})
    trace("momentum_weight_decay", "sgd", {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4})
    trace("nesterov", "sgd", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True})
    trace("groups", "sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}, {"b": {"lr": 0.01, "weight_decay": 0.0}})
    trace("joins", "sgd", {"lr": 0.1, "momentum": 0.9}, joins={"b": 5})
    for optimizer in ("adam", "adamw"):
        default = {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
        trace("plain", optimizer, default)
        trace("weight_decay", optimizer, default | {"weight_decay": 0.1})
        trace("betas_eps", optimizer, default | {"betas": [0.8, 0.95], "eps": 1e-3, "weight_decay": 0.01})
        trace("tiny_gradients", optimizer, default, scale=1e-7)
        trace("groups", optimizer, default | {"weight_decay": 0.1}, {"b": {"lr": 0.001, "weight_decay": 0.0}})
        trace("joins", optimizer, default, joins={"b": 5})
        cosine = [0.01 * 0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]
        trace("rates", optimizer, default | {"weight_decay": 0.1}, rates=cosine)


def schedule(case, kind, make, options, bases, steps):
    """Records the rate of every group at steps 0 .. steps - 1, one `step()` between two of them."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in bases]
    tuned = torch.optim.SGD([{"params": [p], "lr": r} for p, r in zip(parameters, bases, strict=True)])
    planned = make(tuned)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in tuned.param_groups])
        tuned.step()
        if len(rates) < steps:
            planned.step()
    CASES.append(
        {"kind": "schedule", "case": case, "schedule": kind, "options": options, "base_rates": bases, "rates": rates}
    )


def schedules():
    plan = torch.optim.lr_scheduler
    bases = [1e-2, 1e-3, 1e-4]
    schedule("step", "step", lambda o: plan.StepLR(o, 3, 0.1), {"step_size": 3, "gamma": 0.1}, bases, 12)
    schedule("step_half", "step", lambda o: plan.StepLR(o, 4, 0.5), {"step_size": 4, "gamma": 0.5}, [0.1], 12)
    schedule(
        "multi_step",
        "multi_step",
        lambda o: plan.MultiStepLR(o, [2, 5, 9], 0.2),
        {"milestones": [2, 5, 9], "gamma": 0.2},
        [0.1],
        12,
    )
    schedule("cosine", "cosine", lambda o: plan.CosineAnnealingLR(o, 10), {"total": 10, "min_rate": 0.0}, bases, 11)
    schedule(
        "cosine_floor",
        "cosine",
        lambda o: plan.CosineAnnealingLR(o, 8, 1e-4),
        {"total": 8, "min_rate": 1e-4},
        [1e-2, 1e-3],
        9,
    )
    for case, total, start, shape, div, final in (
        ("one_cycle", 20, 0.3, "cos", 25.0, 1e4),
        ("one_cycle_linear", 20, 0.3, "linear", 25.0, 1e4),
        ("one_cycle_early", 15, 0.1, "cos", 10.0, 100.0),
    ):
        schedule(
            case,
            "one_cycle",
            lambda o, t=total, s=start, a=shape, d=div, f=final: plan.OneCycleLR(
                o,
                bases,
                total_steps=t,
                pct_start=s,
                anneal_strategy=a,
                cycle_momentum=False,
                div_factor=d,
                final_div_factor=f,
            ),
            {"total": total, "warm_fraction": start, "anneal": shape, "div_factor": div, "final_div_factor": final},
            bases,
            total,
        )
    schedule(
        "linear_warmup",
        "linear_warmup",
        lambda o: plan.LinearLR(o, 0.1, 1.0, 5),
        {"start_factor": 0.1, "warmup": 5},
        bases,
        9,
    )

    def cosine_warmup(step, warmup=4, total=16):
        return step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    def linear_warmup(step, warmup=4, total=16):
        return step / warmup if step < warmup else max(0.0, (total - step) / (total - warmup))

    schedule(
        "warmup_cosine",
        "warmup_cosine",
        lambda o: plan.LambdaLR(o, cosine_warmup),
        {"warmup": 4, "total": 16},
        bases,
        17,
    )
    schedule(
        "warmup_linear",
        "warmup_linear",
        lambda o: plan.LambdaLR(o, linear_warmup),
        {"warmup": 4, "total": 16},
        bases,
        17,
    )


def slanted_triangular(step, total=40, rise=0.1, ratio=32):
    """Equation 3 of ULMFiT."""
    cut = math.floor(total * rise)
    p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / rise - 1))
    return (1 + p * (ratio - 1)) / ratio


def slanted(case, total, rise, ratio):
    schedule(
        case,
        "slanted_triangular",
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda t: slanted_triangular(t, total, rise, ratio)),
        {"total": total, "rise": rise, "ratio": ratio},
        [1e-2, 1e-3],
        total + 1,
    )


def slants():
    slanted("slanted_triangular", 40, 0.1, 32)
    slanted("slanted_triangular_steep", 30, 0.4, 8)


def plateau(case, measures, **options):
    """Records the factor that follows from the measures up to each epoch."""
    tuned = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    planned = torch.optim.lr_scheduler.ReduceLROnPlateau(tuned, eps=0.0, **options)
    factors = []
    for measure in measures:
        planned.step(measure)
        factors.append(tuned.param_groups[0]["lr"])
    CASES.append({"kind": "plateau", "case": case, "options": options, "measures": measures, "factors": factors})


def plateaus():
    falling_then_flat = [1.0, 0.7, 0.5, 0.5, 0.51, 0.49999, 0.52, 0.5, 0.3, 0.31, 0.32, 0.33, 0.34, 0.35, 0.36, 0.37]
    plateau("patience_1", falling_then_flat, factor=0.5, patience=1)
    plateau("cooldown", falling_then_flat, factor=0.1, patience=0, cooldown=2)
    plateau("floor", falling_then_flat, factor=0.1, patience=0, min_lr=0.005)
    plateau("threshold", [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7], factor=0.3, patience=1, threshold=0.1)


def clip(case, max_norm, norm_type=2.0, scale=1.0):
    parameters = {n: torch.nn.Parameter(w.tensor().float()) for n, w in PARAMETERS.items()}
    for name, parameter in parameters.items():
        parameter.grad = gradient(name, 0, scale)
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), max_norm, norm_type, foreach=False)
    CASES.append(
        {
            "kind": "clip",
            "case": case,
            "max_norm": max_norm,
            "norm_type": "inf" if math.isinf(norm_type) else norm_type,
            "gradient_scale": scale,
            "total_norm": np.float32(norm.item()),
            "clipped": {n: floats(p.grad) for n, p in parameters.items()},
        }
    )


def clips():
    clip("above", 1.0)
    clip("below", 100.0)
    clip("large", 0.5, scale=1e4)
    clip("zero", 1.0, scale=0.0)
    clip("maximum_norm", 0.1, math.inf)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in (traces, schedules, slants, plateaus, clips):
        family()
    write(
        "optim.json",
        {
            "schema": 1,
            "made_with": "torch " + torch.__version__.split("+")[0],
            "formula": "x[i] = c * sin(a + b * i), g[t][i] = scale * c * sin(a + phase * t + b * i)",
            "parameters": {n: w.spec() for n, w in PARAMETERS.items()},
            "gradients": {n: w.spec() for n, w in GRADIENTS.items()},
            "phase": PHASE,
        },
        CASES,
        12,
    )
