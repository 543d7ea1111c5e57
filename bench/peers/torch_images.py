"""Samples per second of PyTorch on image networks: inference and full training steps on the CPU, float32.

Usage: python3 torch_images.py [--batch 16] [--size 224] [--threads 2] [--runs 7] [--filter TEXT]
Needs torch, torchvision and timm. Inference is the best of three forms (eager, frozen TorchScript, and that optimised
for inference), training is forward, cross entropy, backward and an SGD step with momentum; memory is channels_last,
PyTorch's fastest on a CPU. The last line of stdout is one JSON object, for comparison with tl's own numbers.
"""

import argparse
import json
import platform
import statistics
import sys
import time
import warnings

import timm
import torch
import torchvision

MODELS = {
    "resnet18": torchvision.models.resnet18,
    "mobilenet_v2": torchvision.models.mobilenet_v2,
    "efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0", pretrained=False),
}
WARM_UP = 2


def measure(step, runs, batch):
    """Samples per second: the median of the runs, the slowest and the fastest."""
    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return {
        "samples_per_second": round(batch / statistics.median(seconds), 2),
        "min": round(batch / max(seconds), 2),
        "max": round(batch / min(seconds), 2),
    }


def inference(make, x, runs):
    model = make().eval().to(memory_format=torch.channels_last)
    forms = {"eager": model}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but still PyTorch's fastest without a compiler
        try:
            traced = torch.jit.trace(model, x, check_trace=False)
            forms |= {"frozen": torch.jit.freeze(traced), "optimised": torch.jit.optimize_for_inference(traced)}
        except (RuntimeError, AttributeError) as error:
            print(f"no TorchScript: {error}", file=sys.stderr)
        rows = {name: measure(lambda form=form: form(x), runs, len(x)) for name, form in forms.items()}
    best = max(rows, key=lambda name: rows[name]["samples_per_second"])
    return rows[best] | {"form": best}


def training(make, x, runs):
    model = make().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    labels = torch.arange(len(x)) % 1000

    def step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return measure(step, runs, len(x))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("batch", 16), ("size", 224), ("threads", 2), ("runs", 7)):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"(default {value})")
    parser.add_argument("--filter", default="", help="only rows whose name contains this text")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    x = torch.randn(arguments.batch, 3, arguments.size, arguments.size).to(memory_format=torch.channels_last)

    rows = []
    for name, make in MODELS.items():
        for kind, function in (("inference", inference), ("training", training)):
            row = f"{name}/{kind}"
            if arguments.filter not in row:
                continue
            rows.append({"name": row} | function(make, x, arguments.runs))
            last = rows[-1]
            print(
                f"{row:30} {last['samples_per_second']:9.2f} samples/s ({last['min']:.2f} .. {last['max']:.2f})"
                f" {last.get('form', '')}",
                flush=True,
            )
    report = {
        "peer": "torch " + torch.__version__,
        "batch": arguments.batch,
        "size": arguments.size,
        "threads": arguments.threads,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "rows": rows,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
