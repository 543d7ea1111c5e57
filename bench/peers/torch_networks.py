"""One network of PyTorch as a resident worker (see worker.py), or exported to ONNX for other runtimes.

Usage: torch_networks.py --network resnet18 --task inference|training|frozen_step [--tuning full|lora|...]
                         [--form eager|compile] [--batch 16] [--threads 2] [--precision f32|bf16] [--export FILE.onnx]
Needs torch, torchvision and timm. Pictures are channels_last, PyTorch's fastest layout on a CPU; bf16 is autocast, as its
users have it. The optimizer is SGD with momentum, AdamW for the encoder, in PyTorch's fastest form.
"""

import argparse
import contextlib
import functools
import pathlib
import re
import shutil
import sys

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import torch_adapters
import worker

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests" / "golden"))
from cifar_resnet import CifarResNet

WORDS, PLACES, WIDTH, HEADS, HIDDEN, LAYERS, TOKENS = 30522, 512, 384, 12, 1536, 6, 128


class EncoderLayer(nn.Module):
    """Its three projections are one product, or a layer each, so that each can have an adapter of its own."""

    def __init__(self, separate):
        super().__init__()
        self.query_key_value = (nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3)) if separate else
                                nn.Linear(WIDTH, 3 * WIDTH))
        self.output = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, 1e-12), nn.LayerNorm(WIDTH, 1e-12)

    def project(self, x):
        n, t, _ = x.shape
        if isinstance(self.query_key_value, nn.ModuleList):
            return (layer(x).view(n, t, HEADS, WIDTH // HEADS).transpose(1, 2) for layer in self.query_key_value)
        return self.query_key_value(x).view(n, t, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)

    def forward(self, x):
        n, t, _ = x.shape
        q, k, v = self.project(x)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, WIDTH)
        x = self.norm1(x + self.output(attended))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class Encoder(nn.Module):
    """MiniLM's shape with a head of two classes on the first token."""

    def __init__(self, separate=False):
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, WIDTH), nn.Embedding(PLACES, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, 1e-12)
        self.layers = nn.Sequential(*[EncoderLayer(separate) for _ in range(LAYERS)])
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, ids):
        x = self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1])))
        return self.head(self.layers(x)[:, 0])


def make(network, tuning=""):
    """The network, with two classes where a way of tuning is measured, and the prefix of its head's parameters."""
    classes = 2 if tuning else 1000
    if network == "resnet20":
        return CifarResNet(3, classes), "linear."
    if network == "encoder":
        return Encoder(separate=tuning.startswith("lora")), "head."
    if network == "efficientnet_lite0":
        import timm

        return timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=classes), "classifier."
    import torchvision

    return getattr(torchvision.models, network)(num_classes=classes), "fc." if network == "resnet18" else "classifier."


def make_input(network, batch):
    if network == "encoder":
        return (torch.arange(batch * TOKENS) * 7919 % WORDS).view(batch, TOKENS)
    size = 32 if network == "resnet20" else 224
    return torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)


def recompute(net, network):
    """Runs the blocks again in backward that tl's recompute_blocks does: all but the last, whose turn comes at once."""
    blocks = (torch_adapters.BLOCKS | {"encoder": r"layers\.\d+"})[network]
    names = [name for name, _ in net.named_modules() if re.fullmatch(blocks, name)]
    for name in names[:-1]:
        block = net.get_submodule(name)
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def prepare(options, trained):
    """The worker's name and call; `trained` gets the parameters that a call trains."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.form == "compile" and not (shutil.which("g++") or shutil.which("clang++")):
        raise RuntimeError("torch.compile needs a C++ compiler")
    net, head = make(options.network, options.tuning)
    x = make_input(options.network, options.batch)
    tuning = "head" if options.task == "frozen_step" else options.tuning
    everything = tuning in ("", "full", "recompute")
    if tuning == "recompute":
        recompute(net, options.network)
    elif not everything:
        torch_adapters.tune(net, options.network, head, tuning, x[:1])
    if options.network != "encoder":
        net = net.to(memory_format=torch.channels_last)
    labels = torch.arange(options.batch) % 2
    name = f"torch {torch.__version__.split('+')[0]} {options.form}"
    precision = torch.autocast("cpu", torch.bfloat16) if options.precision == "bf16" else contextlib.nullcontext()

    if options.task == "inference":
        net.eval()
        run = torch.compile(net) if options.form == "compile" else net

        def predict():
            with torch.inference_mode(), precision:
                run(x)

        return name, predict

    net.train(everything)
    trained.extend(p for p in net.parameters() if p.requires_grad)
    if options.network == "encoder":
        optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=1e-4, fused=True)
    else:
        optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
    run = torch.compile(net) if options.form == "compile" else net

    def step():
        optimizer.zero_grad()
        with precision:
            loss = functional.cross_entropy(run(x), labels)
        loss.backward()
        optimizer.step()

    return name, step


def export(options):
    torch.manual_seed(0)
    net, _ = make(options.network)
    torch.onnx.export(net.eval(), (make_input(options.network, options.batch).contiguous(),), options.export, dynamo=True,
                      external_data=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", required=True)
    parser.add_argument("--task", choices=("inference", "training", "frozen_step"), default="inference")
    parser.add_argument("--tuning", default="",
                        help="measure a way of tuning: full, recompute, head, or one of torch_adapters.py")
    parser.add_argument("--form", choices=("eager", "compile"), default="eager")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--export", metavar="FILE", help="write the network as ONNX and end")
    options = parser.parse_args()
    if options.export:
        export(options)
    else:
        trained = []
        worker.serve(lambda _: prepare(options, trained), trained_parameters=lambda: sum(p.numel() for p in trained))


if __name__ == "__main__":
    main()
