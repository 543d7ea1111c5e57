"""PyTorch's side of bench_cached_epochs as a resident worker (see worker.py): an epoch of frozen steps, that is, the backbone
without gradients and in evaluation mode, the head with its gradient, and AdamW. The pictures are tensors in memory, decoded,
resized and normalised before the first call.

Usage: torch_frozen_epochs.py (--pictures FOLDER | --images IDX --labels IDX) [--count N] [--size 224] [--batch 32] [--threads 2]
Needs torch, torchvision and timm.
"""

import argparse
import gzip

import numpy
import timm
import torch
from PIL import Image
from torch.nn import functional
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode

import worker


def idx(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        header = file.read(4)
        shape = [int.from_bytes(file.read(4), "big") for _ in range(header[3])]
        return numpy.frombuffer(file.read(), numpy.uint8).reshape(shape)


def samples_of(options):
    if options.pictures:
        data = datasets.ImageFolder(options.pictures)
        for path, label in data.samples[:options.count]:
            yield Image.open(path).convert("RGB"), label
    else:
        for picture, label in zip(idx(options.images)[:options.count], idx(options.labels)[:options.count]):
            yield Image.fromarray(picture).convert("RGB"), int(label)


class Epoch:
    def __init__(self, options):
        torch.set_num_threads(options.threads)
        torch.manual_seed(0)
        prepare = transforms.Compose([
            transforms.Resize(options.size + options.size // 7, InterpolationMode.BICUBIC), transforms.CenterCrop(options.size),
            transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])
        pairs = [(prepare(picture), label) for picture, label in samples_of(options)]
        self.x = torch.stack([x for x, _ in pairs]).contiguous(memory_format=torch.channels_last)
        self.y = torch.tensor([y for _, y in pairs])
        self.batch = options.batch
        net = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=int(self.y.max()) + 1)
        self.net = net.to(memory_format=torch.channels_last).eval()
        self.net.requires_grad_(False)
        self.net.classifier.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.net.classifier.parameters(), lr=1e-3, weight_decay=1e-2, fused=True)

    def __call__(self):
        for chosen in torch.randperm(len(self.x)).split(self.batch):
            with torch.no_grad():
                features = self.net.forward_head(self.net.forward_features(self.x[chosen]), pre_logits=True)
            self.optimizer.zero_grad()
            functional.cross_entropy(self.net.classifier(features), self.y[chosen]).backward()
            self.optimizer.step()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", default="")
    parser.add_argument("--images", default="")
    parser.add_argument("--labels", default="")
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    worker.serve(lambda _: (f"torch {torch.__version__.split('+')[0]} eager", Epoch(options)), warm_up_calls=0)


if __name__ == "__main__":
    main()
