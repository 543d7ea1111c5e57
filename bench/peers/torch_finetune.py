"""bench_finetune's job in PyTorch as a resident worker (see worker.py): the head first, on features that are computed once,
then all layers with a rate for each stage, BatchNorm as pretrained, label smoothing, AdamW, one cycle of the rate.

Usage: torch_finetune.py --pictures FOLDER --weights FILE.safetensors [--epochs 10] [--size 0] [--threads 2]
Needs torch, torchvision, timm and safetensors. The file is tl's, whose names and layout are timm's.
"""

import argparse
import pathlib

import timm
import torch
from safetensors.torch import load_file
from torch.nn import functional
from torchvision import datasets, transforms
from torchvision.transforms import InterpolationMode

import worker

BATCH, HEAD_EPOCHS, HEAD_RATE = 16, 60, 3e-3
RATE, BACKBONE_FACTOR, STAGE_FACTOR, WEIGHT_DECAY = 2e-4, 0.1, 0.8, 1e-2
STAGES = [("conv_stem", "bn1"), *[(f"blocks.{i}",) for i in range(7)], ("conv_head", "bn2"), ("classifier",)]


def pipelines(size):
    end = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    bicubic = InterpolationMode.BICUBIC
    train = [transforms.RandomResizedCrop(size, (0.35, 1.0), interpolation=bicubic), transforms.RandomHorizontalFlip()]
    evaluate = [transforms.Resize(size if size != 224 else 256, bicubic), transforms.CenterCrop(size)]
    return transforms.Compose(train + end), transforms.Compose(evaluate + end)


def groups_of(net):
    """The rate falls from the head towards the input; vectors (biases, norms) have no weight decay."""
    out, rate = [], RATE * BACKBONE_FACTOR
    named = list(net.named_parameters())
    for stage in reversed(STAGES):
        own = RATE if stage == STAGES[-1] else rate
        rate *= 1 if stage == STAGES[-1] else STAGE_FACTOR
        mine = [p for name, p in named if any(name.startswith(prefix + ".") for prefix in stage)]
        out.append({"params": [p for p in mine if p.dim() > 1], "lr": own, "weight_decay": WEIGHT_DECAY})
        out.append({"params": [p for p in mine if p.dim() <= 1], "lr": own, "weight_decay": 0.0})
    return [group for group in out if group["params"]]


def train(parameters, batches_of, loss_of, epochs, batches):
    optimizer = torch.optim.AdamW(parameters, fused=True)
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=epochs * batches, cycle_momentum=False)
    for epoch in range(epochs):
        for x, y in batches_of(epoch):
            optimizer.zero_grad()
            loss_of(x, y).backward()
            optimizer.step()
            schedule.step()


class Job:
    def __init__(self, options):
        self.options, self.last = options, 0.0
        torch.set_num_threads(options.threads)

    def loader(self, part, transform, shuffle=False):
        data = datasets.ImageFolder(pathlib.Path(self.options.pictures) / part, transform)
        return torch.utils.data.DataLoader(data, BATCH, shuffle=shuffle, num_workers=self.options.threads,
                                           persistent_workers=True)

    def features(self, net, loader):
        with torch.inference_mode():
            pairs = [(net.forward_head(net.forward_features(x.to(memory_format=torch.channels_last)), pre_logits=True), y)
                     for x, y in loader]
        return torch.cat([x for x, _ in pairs]).clone(), torch.cat([y for _, y in pairs])

    def __call__(self):
        torch.manual_seed(0)
        augment, evaluate = pipelines(self.options.size or 224)
        net = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        net.load_state_dict(load_file(self.options.weights), strict=False)
        net.reset_classifier(2)
        net = net.to(memory_format=torch.channels_last).eval()  # BatchNorm stays as pretrained

        mirrored = transforms.Compose([evaluate, transforms.RandomHorizontalFlip(1.0)])
        known = [self.features(net, self.loader("train", transform)) for transform in (evaluate, mirrored)]
        x, y = (torch.cat([pair[i] for pair in known]) for i in (0, 1))

        def shuffled(_):
            for positions in torch.randperm(len(x)).split(BATCH):
                yield x[positions], y[positions]

        train([{"params": net.classifier.parameters(), "lr": HEAD_RATE, "weight_decay": WEIGHT_DECAY}], shuffled,
              lambda a, b: functional.cross_entropy(net.classifier(a), b), HEAD_EPOCHS, -(-len(x) // BATCH))

        loader, validation = self.loader("train", augment, shuffle=True), self.loader("val", evaluate)

        def batches_of(epoch):
            if epoch > 0:
                self.validate(net, validation)
            yield from loader

        train(groups_of(net), batches_of,
              lambda a, b: functional.cross_entropy(net(a.to(memory_format=torch.channels_last)), b, label_smoothing=0.1),
              self.options.epochs, len(loader))
        self.validate(net, validation)

    def validate(self, net, loader):
        right = count = 0
        with torch.inference_mode():
            for x, y in loader:
                right += (net(x.to(memory_format=torch.channels_last)).argmax(1) == y).sum().item()
                count += len(y)
        self.last = right / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    job = Job(parser.parse_args())
    worker.serve(lambda _: (f"torch {torch.__version__.split('+')[0]} eager", job), warm_up_calls=0, accuracy=lambda: job.last)


if __name__ == "__main__":
    main()
