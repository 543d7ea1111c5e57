"""convert.py as a program: its lines, its exit codes, and what it leaves on the disk."""

import ast
import json
import os
import resource
import signal
import subprocess
import sys
import time

import crafting
from crafting import ConverterTest, Output, Storage, Tensor, zip_bytes

PROGRAM = os.path.join(crafting.WEIGHTS, "convert.py")
STATE = {"module.w": Tensor(range(6), (3, 2), (1, 3)), "module.tied": None, "module.n": Tensor(Storage([1], "I64"), ())}
STATE["module.tied"] = Tensor(STATE["module.w"].storage, (3, 2), (1, 3))


class Program(ConverterTest):
    def run_program(self, *arguments, **options):
        return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, **options)

    def fails(self, code, words, *arguments, **options):
        before = sorted(os.listdir(self.folder))
        done = self.run_program(*arguments, **options)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(words, done.stderr)
        self.assertRegex(done.stderr, r"\A(note: .*\n)*error: .*\n\Z")
        self.assertEqual(done.stdout, "")
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_convert(self):
        self.write(zip_bytes(STATE))
        done = self.run_program(self.input, self.output, "--classes", "3")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(json.loads(done.stdout), {"tensors": 2, "parameters": 6, "arch": "unknown"})
        self.assertIn("note: prefix 'module.' stripped from 3 names\n", done.stderr)
        out = Output(self.output)
        self.assertEqual(out.tensors, {"n": [1], "w": [0, 3, 1, 4, 2, 5]})
        self.assertEqual(json.loads(out.metadata["classes"]), ["0", "1", "2"])
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])

    def test_list(self):
        self.write(zip_bytes(STATE))
        for arguments in ((self.input, "--list"), (self.input, self.output, "--list")):
            done = self.run_program(*arguments)
            lines = done.stdout.splitlines()
            self.assertEqual(lines[1].split(), ["n", "I64", "I64", "scalar"])
            self.assertEqual(lines[2].split(), ["w", "F32", "F32", "3x2"])
            self.assertEqual(lines[3].split(), ["tied", "=", "w"])
            self.assertEqual(json.loads(lines[-1])["tensors"], 2)
            self.assertEqual(os.listdir(self.folder), ["in.pth"])

    def test_usage(self):
        self.write(zip_bytes(STATE))
        self.fails(2, "OUT is missing", self.input)
        self.fails(2, "arguments are required: IN")
        self.fails(2, "unrecognized arguments", self.input, self.output, "--nonsense")
        self.fails(2, "--arch: x is not known; known are cifar_resnet20", self.input, self.output, "--arch", "x")
        self.fails(2, "--classes: the number of classes", self.input, self.output, "--classes", "0")
        self.fails(2, "OUT is the same file as IN", self.input, self.input)
        self.fails(2, "there is no folder", self.input, os.path.join(self.folder, "no", "out.safetensors"))
        self.fails(2, "is not a regular file", self.input, self.folder)
        self.fails(1, "No such file", os.path.join(self.folder, "none"), self.output)
        self.fails(1, "No such file", self.input, self.output, "--classes", os.path.join(self.folder, "none"))
        self.assertEqual(self.run_program("--help").returncode, 0)

    def test_class_files(self):
        self.write(zip_bytes(STATE))
        names = os.path.join(self.folder, "names.txt")
        for content, words in ((b"a\n\nb\n", "line 2 is no name"), (b"", "line 1"), (b"\xff\n", "not UTF-8")):
            with open(names, "wb") as file:
                file.write(content)
            self.fails(1, words, self.input, self.output, "--classes", names)
        with open(names, "wb") as file:
            file.write("\ufefftench, Tinca tinca\r\ncrane\r\ncrane\r\n".encode())
        self.assertEqual(self.run_program(self.input, self.output, "--classes", names).returncode, 0)
        self.assertEqual(json.loads(Output(self.output).metadata["classes"]), ["tench, Tinca tinca", "crane", "crane"])

    def test_hostile_text_stays_on_one_line(self):
        strange = os.path.join(self.folder, "a\nb\x1b[31m")
        with open(strange, "wb") as file:
            file.write(bytes(100))
        self.fails(1, "it starts with 00", strange, self.output)

    def test_fr05_a_failed_write_leaves_the_old_file(self):
        with open(self.output, "w") as file:
            file.write("old")
        damaged = bytearray(zip_bytes({"w": Tensor([1.5] * 5000)}))
        damaged[damaged.index(b"\xc0\x3f") + 9000] ^= 1
        self.write(bytes(damaged))
        self.fails(1, "checksum", self.input, self.output)

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

        self.write(zip_bytes({"w": Tensor([1.5] * 5000)}))
        self.fails(1, "cannot write", self.input, self.output, preexec_fn=limit)
        with open(self.output) as file:
            self.assertEqual(file.read(), "old")

    def test_fr05_a_stopped_write_leaves_nothing(self):
        self.write(zip_bytes({"w": Tensor(Storage([0.5] * 4_000_000, "F16"))}))
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            process = subprocess.Popen([sys.executable, PROGRAM, self.input, self.output], stderr=subprocess.DEVNULL)
            while process.poll() is None and not any(name.endswith(".tmp") for name in os.listdir(self.folder)):
                time.sleep(0.001)
            process.send_signal(signal_number)
            process.wait()
            self.assertEqual(os.listdir(self.folder), ["in.pth"])
            self.assertNotEqual(process.returncode, 0)

    def test_permissions_follow_the_umask(self):
        self.write(zip_bytes(STATE))
        self.run_program(self.input, self.output, umask=0o027)
        self.assertEqual(os.stat(self.output).st_mode & 0o777, 0o640)

    def test_the_sources_are_python_3_9_and_standard_library(self):
        own = {name[:-3] for name in os.listdir(crafting.WEIGHTS) if name.endswith(".py")}
        for name in own:
            with open(os.path.join(crafting.WEIGHTS, name + ".py"), encoding="utf-8") as file:
                tree = ast.parse(file.read(), feature_version=(3, 9))
            imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            self.assertLessEqual(imported - own, set(getattr(sys, "stdlib_module_names", imported)))
            self.assertNotIn("pickle", imported)


if __name__ == "__main__":
    crafting.main()
