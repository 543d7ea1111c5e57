"""Makes files of weights by hand, without PyTorch, and reads the converter's output by the format's rules."""

import collections
import io
import json
import math
import os
import pickle
import struct
import sys
import tempfile
import types
import unittest
import zipfile
from unittest import mock

sys.dont_write_bytecode = True
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WEIGHTS = os.path.join(REPOSITORY, "weights")
SHARED = os.environ.get("TL_SHARED") or os.path.join(os.path.dirname(REPOSITORY), "shared")
sys.path.insert(0, WEIGHTS)

import convert as converter  # noqa: E402
from tensors import ConvertError  # noqa: E402

# ----------------------------------------------------------------------------------------------- a stand-in for torch

FORMATS = {"F64": "d", "F32": "f", "F16": "e", "BF16": "H", "I64": "q", "I32": "i", "I16": "h", "I8": "b", "U8": "B"}
FORMATS["BOOL"] = "?"
STORAGE_NAMES = {"F64": "DoubleStorage", "F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}
STORAGE_NAMES.update({"I64": "LongStorage", "I32": "IntStorage", "I16": "ShortStorage", "I8": "CharStorage"})
STORAGE_NAMES.update({"U8": "ByteStorage", "BOOL": "BoolStorage"})


def stand_in(module, name):
    """A function that pickle writes as the global module.name; nobody calls it."""

    def function(*_):
        raise AssertionError(f"{module}.{name} was called")

    function.__module__, function.__name__, function.__qualname__ = module, name, name
    return function


TORCH = {name: types.ModuleType(name) for name in ("torch", "torch._utils", "torch._tensor")}
for storage_name in STORAGE_NAMES.values():
    setattr(TORCH["torch"], storage_name, stand_in("torch", storage_name))
for function_name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
    setattr(TORCH["torch._utils"], function_name, stand_in("torch._utils", function_name))


class Storage:
    def __init__(self, values, dtype="F32", key=None):
        self.values = list(values)
        self.dtype = dtype
        self.key = key
        self.count = len(self.values)  # a hostile file may claim another

    def raw(self, order="<"):
        return struct.pack(f"{order}{len(self.values)}{FORMATS[self.dtype]}", *self.values)


class Tensor:
    def __init__(self, storage, shape=None, strides=None, offset=0, rebuild="_rebuild_tensor_v2"):
        self.storage = storage if isinstance(storage, Storage) else Storage(storage)
        self.shape = (len(self.storage.values),) if shape is None else tuple(shape)
        self.strides = row_major(self.shape) if strides is None else tuple(strides)
        self.offset = offset
        self.rebuild = rebuild


def row_major(shape):
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


class TorchPickler(pickle.Pickler):
    def __init__(self, file, legacy, protocol):
        super().__init__(file, protocol)
        self.legacy = legacy
        self.storages = []

    def persistent_id(self, thing):
        if not isinstance(thing, Storage):
            return None
        if thing not in self.storages:
            self.storages.append(thing)
        if thing.key is None:
            thing.key = str(len(self.storages) - 1)
        kind = getattr(TORCH["torch"], STORAGE_NAMES[thing.dtype])
        reference = ("storage", kind, thing.key, "cpu", thing.count)
        return reference + (None,) if self.legacy else reference

    def reducer_override(self, thing):
        if not isinstance(thing, Tensor):
            return NotImplemented
        if thing.rebuild == "_rebuild_parameter":
            plain = Tensor(thing.storage, thing.shape, thing.strides, thing.offset)
            return TORCH["torch._utils"]._rebuild_parameter, (plain, True, collections.OrderedDict())
        arguments = (thing.storage, thing.offset, thing.shape, thing.strides)
        if thing.rebuild == "_rebuild_tensor_v2":
            arguments += (False, collections.OrderedDict())
        return getattr(TORCH["torch._utils"], thing.rebuild), arguments


def pickled(thing, legacy=False, protocol=2):
    """Returns (bytes, storages in the order of their first use)."""
    file = io.BytesIO()
    with mock.patch.dict(sys.modules, TORCH):
        pickler = TorchPickler(file, legacy, protocol)
        pickler.dump(thing)
    return file.getvalue(), pickler.storages


def zip_bytes(thing, compression=zipfile.ZIP_STORED, byteorder="little", extra=(), data_pkl=None):
    """A file as torch.save writes it since 1.6. data_pkl replaces the pickle; extra: more (name, bytes) members."""
    data, storages = pickled(thing)
    order = "<" if byteorder == "little" else ">"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data if data_pkl is None else data_pkl)
        archive.writestr("archive/byteorder", byteorder)
        for storage in storages:
            archive.writestr(f"archive/data/{storage.key}", storage.raw(order))
        archive.writestr("archive/version", "3\n")
        for name, content in extra:
            archive.writestr(name, content)
    return file.getvalue()


def legacy_bytes(thing, little=True, keys=None):
    """A file as torch.save wrote it before 1.6."""
    data, storages = pickled(thing, legacy=True)
    order = "<" if little else ">"
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    parts += [data, pickle.dumps([s.key for s in storages] if keys is None else keys, protocol=2)]
    for storage in storages:
        parts += [struct.pack(order + "q", len(storage.values)), storage.raw(order)]
    return b"".join(parts)


def safetensors_bytes(entries, metadata=None, body=None, pad=0):
    """entries: {name: (dtype, shape, raw)}, or an already written header as text with its body."""
    if isinstance(entries, str):
        text = entries.encode()
    else:
        header, body = {} if metadata is None else {"__metadata__": metadata}, b""
        for name, (dtype, shape, raw) in entries.items():
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(raw)]}
            body += raw
        text = json.dumps(header).encode()
    text += b" " * pad
    return struct.pack("<Q", len(text)) + text + (body or b"")


# ---------------------------------------------------------------------------------------------------------- the reader


class Output:
    """A safetensors file, read by all the format's rules and tl's own: sorted, without holes, padded to 8."""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        (size,) = struct.unpack("<Q", data[:8])
        text = data[8 : 8 + size]
        assert text.startswith(b"{") and size % 8 == 0 and text.rstrip(b" ").endswith(b"}")
        header = json.loads(text, object_pairs_hook=self.unique)
        self.metadata = header.pop("__metadata__")
        assert all(isinstance(value, str) for value in self.metadata.values())
        self.tensors, self.shapes, self.dtypes = {}, {}, {}
        position, order = 0, []
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            code = FORMATS[entry["dtype"]]
            count = math.prod(entry["shape"])
            assert begin == position and end - begin == count * struct.calcsize(code), name
            raw = data[8 + size + begin : 8 + size + end]
            self.tensors[name] = list(struct.unpack(f"<{count}{code}", raw))
            self.shapes[name], self.dtypes[name] = tuple(entry["shape"]), entry["dtype"]
            order.append((-struct.calcsize(code), name))
            position = end
        assert position == len(data) - 8 - size and order == sorted(order)

    @staticmethod
    def unique(pairs):
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)


class ConverterTest(unittest.TestCase):
    """A folder of its own for each test, and short ways to convert bytes."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.input = os.path.join(self.folder, "in.pth")
        self.output = os.path.join(self.folder, "out.safetensors")
        self.notes = []

    def write(self, data):
        with open(self.input, "wb") as file:
            file.write(data)

    def convert(self, data, **options):
        self.write(data)
        self.notes = []
        self.result = converter.convert(self.input, self.output, note=self.notes.append, **options)
        return Output(self.output)

    def refuse(self, data, *texts, **options):
        """The conversion must fail with one clear line that holds all the texts, and leave nothing behind."""
        self.write(data)
        with self.assertRaises(ConvertError) as caught:
            converter.convert(self.input, self.output, **options)
        for text in texts:
            self.assertIn(text, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        self.assertEqual(os.listdir(self.folder), ["in.pth"])


def main():
    """Runs the tests of a file; exit code 77 tells CTest that all were skipped."""
    result = unittest.main(exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if result.testsRun and len(result.skipped) == result.testsRun else 0)
