"""The first prediction of a new Python process, for bench_startup: this script times another run of itself (--once).

Usage: startup.py --form torch|onnxruntime|openvino --picture FILE [--threads 2]     the process, import included
       startup.py --form torch --load                                                only reading the weights from their file
"""

import argparse
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def torch_file():
    folder = pathlib.Path(tempfile.gettempdir()) / f"tl-bench-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    return folder / "mobilenet_v2.pth"


def onnx_file():
    import onnx_networks

    return onnx_networks.model_file(argparse.Namespace(network="mobilenet_v2", batch=1))


def read_picture(path):
    """[1, 3, 224, 224] as the network wants it, with Pillow and NumPy."""
    import numpy
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    scale = 256 / min(picture.size)
    picture = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.BILINEAR)
    left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
    x = numpy.asarray(picture.crop((left, top, left + 224, top + 224)), numpy.float32) / 255
    x = (x - numpy.array(MEAN, numpy.float32)) / numpy.array(DEVIATION, numpy.float32)
    return numpy.ascontiguousarray(x.transpose(2, 0, 1)[None])


def load_torch():
    import torch
    import torchvision

    with torch.device("meta"):  # no random weights that would be overwritten
        net = torchvision.models.mobilenet_v2()
    net.load_state_dict(torch.load(torch_file(), mmap=True), assign=True)
    return net.eval()


def predict_once(options):
    x = read_picture(options.picture)
    if options.form == "torch":
        import torch

        torch.set_num_threads(options.threads)
        with torch.inference_mode():
            return load_torch()(torch.from_numpy(x)).argmax().item()
    if options.form == "onnxruntime":
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(options.model, settings, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: x})[0].argmax()
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(options.model, "CPU", {"INFERENCE_NUM_THREADS": options.threads})
    return compiled(x)[0].argmax()


def prepare(options):
    from importlib import metadata

    name = f"{options.form} {metadata.version(options.form).split('+')[0]}"
    command = [sys.executable, __file__, "--once", "--form", options.form, "--picture", options.picture,
               "--threads", str(options.threads)]
    if options.form == "torch":
        if not torch_file().exists():
            subprocess.run([sys.executable, __file__, "--form", "torch", "--save"], check=True)
        if options.load:
            return name, load_torch
    else:
        command += ["--model", onnx_file()]
    return name, lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", choices=("torch", "onnxruntime", "openvino"), required=True)
    parser.add_argument("--picture", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help="the network as ONNX, for --once")
    parser.add_argument("--once", action="store_true", help="predict and end")
    parser.add_argument("--load", action="store_true", help="time the loading of the weights alone, in this process")
    parser.add_argument("--save", action="store_true", help="write a file with random weights and end")
    options = parser.parse_args()
    if options.once:
        print(predict_once(options))
    elif options.save:
        import torch
        import torchvision

        torch.save(torchvision.models.mobilenet_v2().state_dict(), torch_file())
    else:
        import worker

        worker.serve(lambda _: prepare(options),
                     peak_bytes=lambda: resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)


if __name__ == "__main__":
    main()
