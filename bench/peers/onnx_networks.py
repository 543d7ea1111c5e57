"""One network in ONNX Runtime or OpenVINO as a resident worker (see worker.py).

Usage: onnx_networks.py --form onnxruntime|openvino --network resnet18 [--batch 16] [--threads 2] [--precision f32|bf16]
The network comes from torch_networks.py --export, in a process of its own (so that PyTorch's memory does not count), and is
kept under the system's temporary folder.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy

import worker


def model_file(options):
    folder = pathlib.Path(tempfile.gettempdir()) / f"tl-bench-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    path = folder / f"{options.network}_{options.batch}.onnx"
    if not path.exists():
        part = path.with_suffix(".part.onnx")
        script = pathlib.Path(__file__).parent / "torch_networks.py"
        subprocess.run([sys.executable, str(script), "--network", options.network, "--batch", str(options.batch), "--export",
                        str(part)], check=True, stdout=sys.stderr)
        part.rename(path)
    return str(path)


def make_input(shape, kind):
    if "int64" in kind or "i64" in kind:
        return (numpy.arange(numpy.prod(shape), dtype=numpy.int64) * 7919 % 30522).reshape(shape)
    return numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)


def onnxruntime_call(options):
    import onnxruntime

    if options.precision != "f32":
        raise RuntimeError("ONNX Runtime's CPU kernels have no bf16")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = options.threads, 1
    session = onnxruntime.InferenceSession(model_file(options), settings, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    feed = {given.name: make_input(given.shape, given.type)}
    return f"onnxruntime {onnxruntime.__version__}", lambda: session.run(None, feed)


def openvino_call(options):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": options.threads, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": options.precision}
    model = core.read_model(model_file(options))
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    given = model.inputs[0]
    x = openvino.Tensor(make_input(tuple(given.shape), given.element_type.get_type_name()))
    request.set_input_tensor(x)
    return f"openvino {openvino.__version__.split('-')[0]}", request.infer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=("onnxruntime", "openvino"), required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--task", choices=("inference",), default="inference")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    options = parser.parse_args()
    worker.serve(lambda _: (onnxruntime_call if options.form == "onnxruntime" else openvino_call)(options))


if __name__ == "__main__":
    main()
