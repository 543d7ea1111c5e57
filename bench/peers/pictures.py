"""Pillow, torchvision and PyTorch's DataLoader as a resident worker (see worker.py), which is told each case as JSON:
"op", the "paths" of the pictures, and "threads"."""

import io

import PIL
import torch
import torchvision
from PIL import Image
from torchvision import transforms

import worker

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Files(torch.utils.data.Dataset):
    def __init__(self, paths, transform):
        self.paths, self.transform = paths, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.transform(Image.open(self.paths[i]).convert("RGB")), i


def decode(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def prepare(case):
    pillow, vision = f"pillow {PIL.__version__}", f"torchvision {torchvision.__version__.split('+')[0]}"
    if case is None:
        return vision, None
    torch.set_num_threads(case["threads"])
    end = [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
    evaluate = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), *end])
    train = transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), *end])
    if case["op"] == "epoch":
        loader = torch.utils.data.DataLoader(Files(case["paths"], train), 16, shuffle=True, num_workers=case["threads"],
                                             persistent_workers=True)
        return f"torch {torch.__version__.split('+')[0]} DataLoader, {vision}", lambda: sum(len(y) for _, y in loader)

    files = []
    for path in case["paths"]:
        with open(path, "rb") as file:
            files.append(file.read())
    name, work = {
        "decode": (pillow, decode),
        "decode_resize": (pillow, lambda data: decode(data).resize((224, 224), Image.BILINEAR)),
        "eval_transform": (vision, lambda data: evaluate(decode(data))),
        "train_transform": (vision, lambda data: train(decode(data))),
    }[case["op"]]

    def call():
        for data in files:
            work(data)

    return name, call


if __name__ == "__main__":
    worker.serve(prepare)
