"""Reads the pickle in a PyTorch file as data.

A pickle is a program that may call any Python function. This interpreter knows a list of allowed names and calls none
of them: it builds numbers, text, containers and tensors itself, and refuses all else with the byte at which it stands.
Work and memory are bounded by the limits in tensors.py.
"""

import io
import itertools
import pickletools

from tensors import MAX_NAME, MAX_PICKLE_BYTES, MAX_PICKLE_OPS, MAX_RANK, ConvertError, Tensor, show

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
    "_codecs.encode",
    "argparse.Namespace",
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
for builtin in "bool bytearray complex dict float frozenset int list set str tuple".split():
    INERT_NAMES |= {f"builtins.{builtin}", f"__builtin__.{builtin}"}
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

    def __repr__(self):
        return "(an object)"


def is_key(value):
    """Whether hashing is cheap: no long number, no long tuple, and no nested one (hashing that recurses in C)."""
    if isinstance(value, tuple):
        return len(value) <= MAX_RANK and all(not isinstance(part, tuple) and is_key(part) for part in value)
    if isinstance(value, int):
        return value.bit_length() <= 64
    return value is None or isinstance(value, (str, float, bytes, Name, Placeholder))


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
                raise self.error(f"has a {type(key).__name__} that cannot be a key")
            if key in target:
                raise self.error(f"sets the key {show(key)!r} twice")
            target[key] = value

    def name(self, module, attribute):
        text = f"{module}.{attribute}"
        if text not in ALLOWED_NAMES:
            raise ConvertError(
                f"{self.what} asks for {show(text)} at byte {self.position:,}, which is not on the list of allowed "
                "names. Hint: tensors in plain containers are read; of a model, save its state_dict()."
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
            if type(offset) is not int or offset < 0:
                raise self.error("has a tensor whose offset is no number from 0 up")
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
            and len(reference[2]) <= MAX_NAME
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
