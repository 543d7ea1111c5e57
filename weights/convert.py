#!/usr/bin/env python3
"""Turns pretrained weights into files that tl loads.

    python3 weights/convert.py IN OUT [--arch A] [--classes FILE|N]
    python3 weights/convert.py IN --list

IN   a PyTorch file (.pth, .pt, .bin, .th), in the zip format (since 1.6) or the older plain one, or a .safetensors one
OUT  a .safetensors file with the tensors in PyTorch's names and order (a convolution's weight is OIHW), in f32, and
     the architecture, its preprocessing and its constants in `__metadata__`

Only the Python standard library (3.9 or newer) is needed. No code in the input is run: see pickles.py. The way of a
file: formats.py reads it into the tensors of tensors.py, architectures.py names and recognises them, and here they are
written.
"""

import argparse
import hashlib
import json
import os
import signal
import sys

sys.dont_write_bytecode = True  # nothing is written but the output

from architectures import ARCHITECTURES, RETRAINED, bert_heads, find_architecture
from architectures import check_names, rename_efficientnet, rename_gamma_beta, strip_prefixes
from formats import read_file
from tensors import ITEM_SIZE, MAX_CLASSES, MAX_CLASSES_BYTES, MAX_HEADER_BYTES, MAX_NAME, MAX_OVERLAP
from tensors import RESERVED_METADATA, ConvertError, UsageError, WriteError, show, some

# --------------------------------------------------------------------------------------------------------- the output


class Result:
    """What was found, and written if a path was given."""

    def __init__(self, stored, aliases, metadata):
        self.stored = stored  # {name: Tensor}, in the file's order
        self.aliases = aliases  # {other name: stored name}
        self.metadata = metadata  # {key: text}, without the aliases
        self.arch = metadata.get("arch", "unknown")

    def parameters(self):
        """Trainable numbers: without BatchNorm's statistics, tied weights once."""
        statistics = ("running_mean", "running_var")
        return sum(t.count for n, t in self.stored.items() if t.dtype == "F32" and n.split(".")[-1] not in statistics)

    def summary(self):
        return {"tensors": len(self.stored), "parameters": self.parameters(), "arch": self.arch}


def convert(path, out=None, arch=None, classes=None, details=None, note=lambda text: None):
    """Converts the file `path` to `out`, or only looks at it.

    classes: names in the order of the head's outputs. details: "source", and entries for "constants" and "preprocess"
    that are known of this very file. note: receives each remark as one line of text.
    """
    try:
        tensors, old = read_file(path, note)
        if not tensors:
            raise ConvertError("holds no tensors")
        check_names(tensors)
        tensors = rename_gamma_beta(strip_prefixes(tensors, note), note)
        if "embeddings.word_embeddings.weight" in tensors and tensors.pop("embeddings.position_ids", None):
            note("embeddings.position_ids (0, 1, 2, …) is left out")
        original, tensors = tensors, rename_efficientnet(tensors, note)
        check_names(tensors)
        if old.get("format") != "tl":
            old = {}
        source_known = tensors is not original or bool(old)
        name, found = find_architecture(tensors, arch, source_known, note)
        stored, aliases = tie(tensors, note)
        metadata = {"format": "tl", **{key: old[key] for key in RESERVED_METADATA if key in old}}
        if found:
            metadata.update(describe(name, found, tensors, {} if arch else old, details or {}, note))
        if classes is not None:
            outputs = class_count(found, tensors)
            if outputs not in (None, len(classes)):
                raise ConvertError(f"has a head of {outputs} outputs, but --classes names {len(classes)}")
            metadata["classes"] = compact(classes)
        if details and "source" in details:
            metadata["source"] = details["source"]
        elif "source" not in metadata:
            metadata["source"] = f"{os.path.basename(path)} sha256:{file_sha256(path)}"
        if out is not None:
            if os.path.exists(out) and os.path.samefile(path, out):
                raise UsageError("OUT is the same file as IN")
            write_safetensors(out, stored, {**metadata, **aliases})
        return Result(stored, aliases, metadata)
    except ConvertError as error:
        if error.names_file:
            raise
        raise ConvertError(f"{show(path)}: {error}") from None


def describe(name, arch, tensors, old, details, note):
    """The metadata that the architecture brings; what the input itself said stays, what is known of the file wins."""
    defaults = {"preprocess": arch.preprocess or {}, "constants": arch.constants}
    if name == "bert" and "heads" not in details.get("constants", {}):
        defaults["constants"] = {**arch.constants, **bert_heads(tensors, note)}
    metadata = {"arch": name}
    for key, default in defaults.items():
        if key not in old and {**default, **details.get(key, {})}:
            metadata[key] = compact({**default, **details.get(key, {})})
    return metadata


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
            raise ConvertError(f"has tensors, {show(name)} among them, that read one storage too often")
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
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise UsageError(f"cannot write {show(path)}: there is no folder {show(folder)}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"cannot write {show(path)}: it is not a regular file")
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
    except BaseException as error:  # an interrupt, too, must leave nothing behind
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise WriteError(f"cannot write {show(path)}: {error.strerror}") from None
        raise
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -------------------------------------------------------------------------------------------------------- the program


class OneLineParser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message} (see --help)")


def read_classes(text):
    """--classes: a number, or a file with one name per line."""
    if text.isascii() and text.isdigit():
        if len(text) > 7 or not 0 < int(text) <= MAX_CLASSES:
            raise UsageError(f"--classes: the number of classes must be from 1 to {MAX_CLASSES:,}")
        return [str(index) for index in range(int(text))]
    with open(text, "rb") as file:
        raw = file.read(MAX_CLASSES_BYTES + 1)
    if len(raw) > MAX_CLASSES_BYTES:
        raise ConvertError(f"{show(text)}: is too large for a list of classes")
    try:
        lines = raw.decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n").split("\n")
    except UnicodeDecodeError:
        raise ConvertError(f"{show(text)}: is not UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or not line.strip().isprintable() or len(line) > MAX_NAME:
            raise ConvertError(f"{show(text)}: line {number} is no name of a class: empty, unprintable or too long")
    return [line.strip() for line in lines]


def print_table(result):
    rows = [
        (name, tensor.storage.dtype, tensor.dtype, "x".join(map(str, tensor.shape)) or "scalar")
        for name, tensor in result.stored.items()
    ]
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
