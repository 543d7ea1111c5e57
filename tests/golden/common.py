"""What the golden scripts share: closed-form tensors, and JSON with one case a line."""

import json
import math
import pathlib

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).resolve().parent


class Wave:
    """A tensor x[i] = d + c * sin(a + b * i), i the flat row-major index, computed in double."""

    def __init__(self, shape, a, b, c=1.0, d=0.0):
        self.shape, self.a, self.b, self.c, self.d = list(shape), a, b, c, d

    def tensor(self):
        index = np.arange(math.prod(self.shape), dtype=np.float64)
        return torch.from_numpy(self.d + self.c * np.sin(self.a + self.b * index)).reshape(self.shape)

    def spec(self):
        return {"shape": self.shape, "a": self.a, "b": self.b, "c": self.c, "d": self.d}


class Values:
    """A tensor that is listed: labels, indices, masks, and floats at the kinks of a function."""

    def __init__(self, values, shape=None, dtype="f64"):
        self.values = list(values)
        self.shape = [len(self.values)] if shape is None else list(shape)
        self.dtype = dtype

    def tensor(self):
        kind = {"f64": torch.float64, "i32": torch.int64, "bool": torch.bool}[self.dtype]
        return torch.tensor(self.values, dtype=kind).reshape(self.shape)

    def spec(self):
        return {"shape": self.shape, "dtype": self.dtype, "values": self.values}


def number(value, digits):
    """A JSON number of `digits` significant digits; a float32 always has the nine that restore its bits."""
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    if isinstance(value, np.float32):
        digits = 9
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"JSON has no {value}")
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.{digits}g}"


def compact(value, digits=9):
    """JSON text without spaces, floats rounded to `digits` significant digits."""
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(k) + ":" + compact(v, digits) for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(compact(v, digits) for v in value) + "]"
    if value is None or isinstance(value, str):
        return json.dumps(value)
    return number(value, digits)


def write(name, head, cases, digits=9):
    """Writes FOLDER/name: the entries of head, then "cases", one a line."""
    path = FOLDER / name
    lines = [f"{json.dumps(k)}:{compact(v, digits)}," for k, v in head.items()]
    body = ",\n".join(compact(case, digits) for case in cases)
    path.write_text("{" + "\n".join(lines) + '\n"cases":[\n' + body + "\n]}\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")
