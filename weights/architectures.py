"""Names and architectures: what wrappers and other libraries call the tensors, which network they are, and what no
tensor says about it (preprocessing, epsilon, padding, activation).
"""

from tensors import MAX_EXTRA, MAX_NAME, ConvertError, UsageError, plural, show, some

# -------------------------------------------------------------------------------------------------------------- names

PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.", "bert.")


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
    """`_blocks.4._project_conv.weight` of EfficientNet-Lite-PyTorch becomes timm's `blocks.2.1.conv_pwl.weight`.
    The former counts blocks from the first to the last, timm within each stage."""
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


# ------------------------------------------------------------------------------------------------------ architectures
# An architecture is the table of its tensors: {name: shape}, None where any length will do. It is recognised when
# every tensor of the table is there with its shape.

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
LITE0_STAGES, LITE12_STAGES = (1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1)


def picture(size, resize, interpolation, mean=IMAGENET_MEAN, std=IMAGENET_STD, channels="RGB"):
    """How an input is made from a picture: shorter side to `resize`, centre crop `size`, x / 255, (x - mean) / std."""
    return {
        "size": size,
        "resize": resize,
        "crop_fraction": round(size / resize, 3),
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
    t.conv("conv1", 6, 1, 5, bias=True)
    t.conv("conv2", 16, 6, 5, bias=True)
    t.linear("fc1", 120, 400)
    t.linear("fc2", 84, 120)
    return t


def bert(tensors):
    """The sizes are free: they are taken from the tensors, then all must agree with them."""
    embedding = tensors.get("embeddings.word_embeddings.weight")
    hidden = tensors.get("encoder.layer.0.intermediate.dense.weight")
    if embedding is None or hidden is None or len(embedding.shape) != 2 or len(hidden.shape) != 2:
        return Table({"embeddings.word_embeddings.weight": (None, None)})
    width, inner = embedding.shape[1], hidden.shape[0]
    layers = [name for name in tensors if name.startswith("encoder.layer.") and name.endswith(".self.key.bias")]
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
    if "pooler.dense.weight" in tensors:
        t.linear("pooler.dense", width, width)
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


DIGITS = picture(28, 28, "bilinear", [0.5] * 3, [0.5] * 3, channels="gray")
CIFAR = picture(32, 32, "bilinear")
TORCHVISION = picture(224, 256, "bilinear")
LITE0_WIDTHS, LITE2_WIDTHS = (16, 24, 40, 80, 112, 192, 320), (16, 24, 48, 88, 120, 208, 352)
LITE_HEAD, LITE_CONSTANTS = head("classifier", 1280), constants("relu6", "same_tf", 1e-3)


def lite_picture(size):
    return picture(size, size + 32, "bicubic", [0.5] * 3, [0.5] * 3)  # a margin of 16 pixels at every size


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
    "mobilenet_v2_gluon": Arch(mobilenet_v2_gluon, head("classifier.1", 1280), constants("relu"), TORCHVISION),
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
    "lenet": Arch(lenet, head("fc3", 84), constants("relu", bn_eps=None), DIGITS),
    "bert": Arch(bert, {}, {"layer_norm_eps": 1e-12, "activation": "gelu"}),
}
# timm's own training of the same network: no tensor tells it from Google's, so it must be asked for.
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


def find_architecture(tensors, asked, source_known, note):
    """Returns (name, Arch) of the architecture asked for or recognised, or (None, None)."""
    if asked is not None:
        name = asked[3:] if asked.startswith("tf_efficientnet_lite") else asked
        arch = ARCHITECTURES.get(name) or RETRAINED.get(name)
        if arch is None:
            known = ", ".join([*ARCHITECTURES, *RETRAINED])
            raise UsageError(f"--arch: {show(asked)} is not known; known are {known}")
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
        twin = f"{name}.ra_in1k"
        if twin in RETRAINED and not source_known:
            note(f"taken as Google's weights (SAME padding, epsilon 1e-3); timm's own need --arch {twin}")
    if extra:
        note(f"tensors beside those of {name}: {some(extra)}")
    if arch.head and not any(key in tensors for key in arch.head):
        note(f"{name} without its head ({', '.join(arch.head)}): features only")
    return arch.name or name, arch


def bert_heads(tensors, note):
    width = tensors["embeddings.word_embeddings.weight"].shape[1]
    if width not in BERT_HEADS:
        note(f"the number of attention heads is in no tensor, and not known for width {width}")
        return {}
    return {"heads": BERT_HEADS[width]}
