"""Writes resize.json: Pillow's resized pictures, byte for byte, and torchvision's transforms on small pictures.

Usage: python3 make_resize.py (needs torch, torchvision and pillow). The schema is in README.md.
"""

import numpy as np
import PIL
import torch
import torchvision
import torchvision.transforms.functional as TF
from PIL import Image
from torchvision.transforms import v2

from common import write

CASES = []
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def picture(pattern, height, width, channels):
    """A closed-form picture of bytes; the patterns are in README.md."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    values = {
        "waves": 37 * x + 59 * y + 101 * c + 7 * x * y + x * x * (y + 3),
        "ramp": 5 * x + 3 * y + 40 * c,
        "chequer": 255 * ((x + y) % 2),
        "edge": 255 * (2 * x + y > width),
    }[pattern]
    pixels = (values % 256).astype(np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def hexadecimal(image):
    return np.asarray(image).tobytes().hex()


def resize(source, target, channels=(3, 1), filters=tuple(FILTERS), pattern="waves"):
    for count in channels:
        for name in filters:
            result = picture(pattern, *source, count).resize((target[1], target[0]), FILTERS[name])
            CASES.append(
                {
                    "kind": "resize",
                    "filter": name,
                    "pattern": pattern,
                    "source": [*source, count],
                    "target": [*target, count],
                    "bytes": hexadecimal(result),
                }
            )


def resizes():
    resize((17, 23), (8, 8))
    resize((20, 31), (50, 40), channels=[1])
    resize((20, 31), (50, 40), channels=[3], filters=["bicubic"])
    resize((64, 64), (9, 7))
    resize((64, 64), (8, 8))
    resize((7, 5), (13, 11))
    resize((19, 30), (19, 11), channels=[3])
    resize((19, 12), (6, 12), channels=[3])
    resize((9, 40), (15, 17), channels=[3])
    resize((6, 7), (6, 7), channels=[3])
    resize((1, 1), (3, 4), channels=[3])
    resize((5, 1), (2, 3), channels=[3])
    resize((33, 29), (1, 1), channels=[3])
    resize((200, 3), (7, 5), channels=[3])
    resize((24, 24), (31, 10), channels=[3], pattern="ramp")
    resize((20, 21), (9, 33), pattern="edge")
    resize((256, 256), (32, 32), channels=[1], pattern="chequer")


def center_crops():
    for size, crop in (
        ((10, 10), (4, 4)),
        ((11, 10), (4, 4)),
        ((9, 12), (4, 5)),
        ((13, 15), (8, 8)),
        ((256, 341), (224, 224)),
        ((257, 384), (224, 224)),
        ((9, 9), (9, 9)),
        ((5, 12), (8, 8)),
        ((6, 5), (9, 8)),
    ):
        numbers = torch.arange(1, size[0] * size[1] + 1, dtype=torch.float64).reshape(1, *size)
        result = TF.center_crop(numbers, list(crop))[0]
        y, x = (int(i) for i in result.nonzero()[0])
        row, column = divmod(int(result[y, x]) - 1, size[1])
        CASES.append(
            {"kind": "center_crop", "size": list(size), "crop": list(crop), "top": row - y, "left": column - x}
        )


def shorter_sides():
    for size, side in (
        ((480, 640), 256),
        ((375, 500), 256),
        ((500, 333), 256),
        ((333, 500), 232),
        ((100, 100), 64),
        ((17, 23), 8),
        ((23, 17), 30),
        ((1, 50), 4),
        ((768, 1023), 257),
    ):
        result = TF.resize(Image.new("L", (size[1], size[0])), side)
        CASES.append(
            {"kind": "shorter_side", "size": list(size), "side": side, "result": [result.height, result.width]}
        )


def pipelines():
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    for name in FILTERS:
        mode = getattr(v2.InterpolationMode, name.upper())
        steps = [v2.Resize(12, mode), v2.CenterCrop(9), v2.PILToTensor(), v2.ToDtype(torch.float64, scale=True)]
        result = v2.Compose([*steps, v2.Normalize(mean, deviation)])(picture("waves", 25, 37, 3))
        CASES.append(
            {
                "kind": "evaluation",
                "filter": name,
                "pattern": "waves",
                "source": [25, 37, 3],
                "side": 12,
                "crop": 9,
                "mean": mean,
                "deviation": deviation,
                "values": result.permute(1, 2, 0).reshape(-1).tolist(),
            }
        )


def colours():
    functions = {
        "brightness": TF.adjust_brightness,
        "contrast": TF.adjust_contrast,
        "saturation": TF.adjust_saturation,
        "hue": TF.adjust_hue,
    }
    for name, function in functions.items():
        for factor in (-0.2, 0.1) if name == "hue" else (0.6, 1.4):
            result = function(picture("waves", 6, 7, 3), factor)
            entry = {"kind": "colour", "adjust": name, "factor": factor, "pattern": "waves", "source": [6, 7, 3]}
            CASES.append(entry | {"bytes": hexadecimal(result)})


if __name__ == "__main__":
    for family in (resizes, center_crops, shorter_sides, pipelines, colours):
        family()
    versions = f"pillow {PIL.__version__}, torchvision {torchvision.__version__.split('+')[0]}"
    write("resize.json", {"schema": 1, "made_with": versions}, CASES)
