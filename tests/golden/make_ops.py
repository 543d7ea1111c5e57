"""Writes ops.json: PyTorch's value and gradients, in double precision, for every operation of tl.

Usage: python3 make_ops.py (needs torch). The schema is in README.md. Tensors stand in tl's layout: images are
[N, H, W, C], convolution weights [Cout, kH, kW, Cin/groups]; the functions below permute inside autograd, so that the
gradients come back in that layout too.
"""

import math

import torch
import torch.nn.functional as F

from common import Values, Wave, write

CASES = []
STEPS = [2.4, 1.7, 0.73, 3.9, 5.3]  # steps of the sine; far from each other, so that inputs are not alike


def wave(shape, k, c=1.0, d=0.0):
    """The k-th closed-form tensor."""
    return Wave(shape, round(0.3 + 0.37 * k, 2), STEPS[k % len(STEPS)], c, d)


def flat(tensor):
    return tensor.detach().reshape(-1).tolist()


def evaluate(function, inputs, constant, dtype, cotangent):
    tensors = {}
    for name, item in inputs.items():
        tensor = item.tensor()
        if tensor.is_floating_point():
            tensor = tensor.to(dtype).requires_grad_(name not in constant)
        tensors[name] = tensor
    result = function(**tensors)
    output, extra = result if isinstance(result, tuple) else (result, {})
    output.backward(cotangent.tensor().to(dtype))
    grads = {n: t.grad if t.grad is not None else torch.zeros_like(t) for n, t in tensors.items() if t.requires_grad}
    return output, extra, grads


def add(op, case, function, inputs, options=None, constant=(), note=None, f32_tolerance=1e-5):
    """Records one case; a second run in float32 makes sure that the case is well conditioned."""
    with torch.no_grad():
        result = function(**{n: i.tensor() for n, i in inputs.items()})
        shape = list((result[0] if isinstance(result, tuple) else result).shape)
    cotangent = Wave(shape, 1.1, 1.3, 0.05, 0.02) if shape else Wave(shape, 0, 0, 0, 0.7)
    output, extra, grads = evaluate(function, inputs, constant, torch.float64, cotangent)
    if f32_tolerance:
        output32, _, grads32 = evaluate(function, inputs, constant, torch.float32, cotangent)
        pairs = [(output, output32)] + [(grads[n], grads32[n]) for n in grads]
        for wide, narrow in pairs:
            error = (wide - narrow.double()).abs().max() / wide.abs().max().clamp_min(1e-3)
            if not error < f32_tolerance:
                raise SystemExit(f"{op}/{case}: float32 is off by {error:.2e}; choose inputs away from ties")
    entry = {
        "op": op,
        "case": case,
        "options": options or {},
        "inputs": {n: i.spec() for n, i in inputs.items()},
        "cotangent": cotangent.spec(),
        "output_shape": shape,
        "output": flat(output),
    }
    if extra:
        entry["extra"] = {n: flat(t) for n, t in extra.items()}
    entry["grads"] = {n: flat(g) for n, g in grads.items()}
    if note:
        entry["note"] = note
    CASES.append(entry)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def arithmetic():
    functions = {"add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum}
    shapes = {
        "same": ([2, 3, 4], [2, 3, 4]),
        "row": ([2, 3, 4], [4]),
        "column": ([2, 3, 4], [3, 1]),
        "outer": ([2, 1, 4], [1, 3, 1]),
        "scalar": ([2, 3, 4], []),
        "rank": ([5], [2, 3, 5]),
        "long": ([67], [67]),
    }
    for op, function in functions.items():
        for case, (a, b) in shapes.items():
            divisor = {"c": 0.8, "d": 1.7} if op == "div" else {}
            add(op, case, lambda a, b, f=function: f(a, b), {"a": wave(a, 0), "b": wave(b, 1, **divisor)})


def reductions():
    axes = {"first": [0], "middle": [1], "last": [2], "outer": [0, 2], "image": [1, 2], "all": [0, 1, 2]}
    functions = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}
    for op, function in functions.items():
        for case, dims in axes.items():
            for keep in (False, True):
                add(
                    op,
                    case + ("_keep" if keep else ""),
                    lambda x, f=function, d=dims, k=keep: f(x, dim=d, keepdim=k),
                    {"x": wave([3, 4, 5], 2)},
                    {"axes": dims, "keepdim": keep},
                )


def products():
    shapes = {
        "small": ([5, 7], [7, 3]),
        "dot": ([1, 9], [9, 1]),
        "outer": ([4, 1], [1, 6]),
        "odd": ([17, 19], [19, 18]),
        "batched": ([2, 3, 4, 5], [2, 3, 5, 6]),
        "batched_3d": ([3, 4, 5], [3, 5, 2]),
        "broadcast_matrix": ([3, 4, 5], [5, 6]),
        "broadcast_batch": ([2, 1, 4, 5], [3, 5, 2]),
    }
    for case, (a, b) in shapes.items():
        add("matmul", case, lambda a, b: a @ b, {"a": wave(a, 0), "b": wave(b, 1)})
    for case, lead in {"rows": [5], "tokens": [2, 3], "one": [1]}.items():
        inputs = {"x": wave(lead + [6], 0), "weight": wave([4, 6], 1), "bias": wave([4], 2)}
        add("linear", case, lambda x, weight, bias: F.linear(x, weight, bias), inputs)
    add("linear", "no_bias", lambda x, weight: F.linear(x, weight), {"x": wave([3, 7], 0), "weight": wave([5, 7], 1)})


def same_pads(size, kernel, stride, dilation):
    """TensorFlow's SAME: (before, after), the odd one after."""
    total = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def convolution(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    if padding == "same":
        top, bottom = same_pads(x.shape[1], weight.shape[1], stride[0], dilation[0])
        left, right = same_pads(x.shape[2], weight.shape[2], stride[1], dilation[1])
        x = F.pad(x, (0, 0, left, right, top, bottom))
        padding = (0, 0)
    return nhwc(F.conv2d(nchw(x), nchw(weight), bias, stride, padding, dilation, groups))


def convolutions():
    def conv(case, x, weight, bias=True, **options):
        inputs = {"x": wave(x, 0), "weight": wave(weight, 1)}
        if bias:
            inputs["bias"] = wave(weight[:1], 2)
        full = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1} | options
        add("conv2d", case, lambda x, weight, bias=None: convolution(x, weight, bias, **full), inputs, full)

    conv("3x3", [2, 5, 6, 3], [4, 3, 3, 3], padding=[1, 1])
    conv("3x3_no_padding", [1, 5, 4, 2], [3, 3, 3, 2], bias=False)
    conv("3x3_stride2", [2, 7, 6, 3], [4, 3, 3, 3], bias=False, stride=[2, 2], padding=[1, 1])
    conv("rectangular", [1, 7, 8, 2], [3, 3, 5, 2], stride=[2, 1], padding=[0, 2])
    conv("1x1", [2, 3, 4, 5], [6, 1, 1, 5])
    conv("1x1_odd_channels", [1, 3, 3, 33], [17, 1, 1, 33], bias=False)
    conv("1x1_stride2", [2, 5, 6, 3], [4, 1, 1, 3], bias=False, stride=[2, 2])
    conv("stem_7x7", [1, 9, 10, 3], [4, 7, 7, 3], bias=False, stride=[2, 2], padding=[3, 3])
    conv("3x3_odd_channels", [1, 4, 4, 17], [9, 3, 3, 17], padding=[1, 1])
    conv("winograd_size", [1, 9, 8, 8], [8, 3, 3, 8], bias=False, padding=[1, 1])
    conv("dilation2", [1, 7, 6, 2], [3, 3, 3, 2], padding=[2, 2], dilation=[2, 2])
    conv("dilation_uneven", [1, 8, 7, 2], [2, 3, 2, 2], stride=[1, 2], padding=[1, 1], dilation=[3, 2])
    conv("groups2", [2, 4, 5, 4], [6, 3, 3, 2], padding=[1, 1], groups=2)
    conv("groups3_stride2", [1, 5, 5, 6], [3, 3, 3, 2], bias=False, stride=[2, 2], padding=[1, 1], groups=3)
    conv("depthwise_3x3", [2, 5, 4, 5], [5, 3, 3, 1], bias=False, padding=[1, 1], groups=5)
    conv("depthwise_3x3_17_channels", [1, 6, 5, 17], [17, 3, 3, 1], padding=[1, 1], groups=17)
    conv("depthwise_5x5_stride2", [1, 7, 8, 3], [3, 5, 5, 1], stride=[2, 2], padding=[2, 2], groups=3)
    conv("depthwise_multiplier2", [1, 4, 5, 3], [6, 3, 3, 1], padding=[1, 1], groups=3)
    conv("depthwise_dilation2", [1, 7, 6, 3], [3, 3, 3, 1], bias=False, padding=[2, 2], dilation=[2, 2], groups=3)
    conv("same_3x3_stride2_even", [1, 8, 6, 2], [3, 3, 3, 2], bias=False, stride=[2, 2], padding="same")
    conv("same_3x3_stride2_odd", [1, 7, 5, 2], [3, 3, 3, 2], bias=False, stride=[2, 2], padding="same")
    conv("same_3x3_stride1", [1, 4, 5, 2], [3, 3, 3, 2], padding="same")
    conv("same_2x2_stride1", [1, 4, 3, 2], [3, 2, 2, 2], padding="same")
    conv("same_5x5_stride2_mixed", [1, 6, 7, 2], [2, 5, 5, 2], stride=[2, 2], padding="same")
    conv("same_dilation2", [1, 6, 5, 2], [2, 3, 3, 2], padding="same", dilation=[2, 2])
    conv("same_1x1_stride2", [1, 6, 5, 2], [2, 1, 1, 2], stride=[2, 2], padding="same")
    conv("same_depthwise_3x3_stride2", [1, 8, 7, 3], [3, 3, 3, 1], bias=False, stride=[2, 2], padding="same", groups=3)
    conv("same_depthwise_5x5_stride2", [2, 6, 6, 4], [4, 5, 5, 1], bias=False, stride=[2, 2], padding="same", groups=4)
    conv("image_smaller_than_kernel", [2, 2, 1, 3], [2, 3, 3, 3], padding=[1, 1])
    conv("one_pixel_out", [2, 3, 4, 2], [3, 3, 4, 2])


def pools():
    def pool(op, case, x, function, options):
        add(op, case, lambda x: nhwc(function(nchw(x))), {"x": x}, options)

    def max_pool(case, x, kernel, stride, padding=(0, 0), ceil=False):
        options = {"kernel": list(kernel), "stride": list(stride), "padding": list(padding), "ceil_mode": ceil}
        pool("max_pool2d", case, x, lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil), options)

    max_pool("2x2", wave([2, 4, 6, 3], 0), (2, 2), (2, 2))
    max_pool("2x2_odd_size", wave([1, 5, 7, 2], 0), (2, 2), (2, 2))
    max_pool("3x3_stride2_padding1", wave([2, 7, 6, 3], 0), (3, 3), (2, 2), (1, 1))
    max_pool("3x3_stride2_ceil", wave([1, 6, 8, 3], 0), (3, 3), (2, 2), ceil=True)
    max_pool("2x2_stride3_padding1_ceil", wave([1, 5, 4, 2], 0), (2, 2), (3, 3), (1, 1), ceil=True)
    max_pool("overlap_rectangular", wave([1, 6, 5, 2], 0), (3, 2), (1, 2), (1, 0))
    max_pool("17_channels", wave([1, 4, 4, 17], 0), (2, 2), (2, 2))
    max_pool("all_negative_padding1", wave([1, 4, 4, 2], 0, d=-3.0), (3, 3), (2, 2), (1, 1))
    zeros = [0, 0, 1, 1, 0, 0, 1, 2, 0, 0, 0, 0, -1, -1, 0, 0]
    max_pool("ties_go_to_the_first", Values(map(float, zeros), [1, 4, 4, 1]), (2, 2), (2, 2))

    def avg_pool(case, x, kernel, stride, padding=(0, 0), ceil=False, count=True):
        options = {
            "kernel": list(kernel),
            "stride": list(stride),
            "padding": list(padding),
            "ceil_mode": ceil,
            "count_include_pad": count,
        }
        pool("avg_pool2d", case, x, lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, count), options)

    avg_pool("2x2", wave([2, 4, 6, 3], 0), (2, 2), (2, 2))
    avg_pool("2x2_odd_size", wave([1, 5, 7, 2], 0), (2, 2), (2, 2))
    for count in (True, False):
        name = "_count_pad" if count else "_skip_pad"
        avg_pool("3x3_stride2_padding1" + name, wave([1, 5, 6, 2], 0), (3, 3), (2, 2), (1, 1), count=count)
        avg_pool("3x3_stride2_padding1_ceil" + name, wave([1, 6, 5, 2], 0), (3, 3), (2, 2), (1, 1), True, count)
    avg_pool("3x2_overlap", wave([1, 5, 4, 2], 0), (3, 2), (1, 1))

    for case, x, size in (
        ("one", [2, 3, 5, 4], [1, 1]),
        ("uneven", [1, 5, 7, 2], [2, 3]),
        ("up", [1, 2, 3, 2], [3, 5]),
    ):
        pool(
            "adaptive_avg_pool2d",
            case,
            wave(x, 0),
            lambda x, s=size: F.adaptive_avg_pool2d(x, s),
            {"output_size": size},
        )
    add("global_avg_pool", "image", lambda x: x.mean(dim=(1, 2)), {"x": wave([2, 3, 5, 4], 0)})


def normalisations():
    def batch(case, shape, training, momentum=0.1, eps=1e-5, affine=True, c=1.0, d=0.0, tolerance=1e-5):
        channels = shape[-1]
        inputs = {"x": wave(shape, 0, c, d)}
        if affine:
            inputs |= {"weight": wave([channels], 1, 0.5, 1.0), "bias": wave([channels], 2, 0.5)}
        inputs |= {"running_mean": wave([channels], 3, 0.3, d), "running_var": wave([channels], 4, 0.5, 1.0)}

        def function(x, running_mean, running_var, weight=None, bias=None):
            mean, variance = running_mean.clone(), running_var.clone()
            y = F.batch_norm(x.movedim(-1, 1), mean, variance, weight, bias, training, momentum, eps).movedim(1, -1)
            return y, {"running_mean": mean, "running_var": variance}

        options = {"training": training, "momentum": momentum, "eps": eps}
        add("batch_norm", case, function, inputs, options, ("running_mean", "running_var"), f32_tolerance=tolerance)

    batch("training", [2, 3, 4, 5], True)
    batch("training_rows", [6, 4], True)
    batch("training_efficientnet", [2, 2, 3, 17], True, 0.01, 1e-3)
    batch("training_no_affine", [3, 2, 2, 3], True, affine=False)
    batch("training_two_values", [2, 1, 1, 3], True, tolerance=1e-3)
    batch("training_offset", [2, 3, 3, 2], True, d=50.0, tolerance=1e-3)
    batch("training_small_variance", [2, 3, 3, 2], True, eps=1e-3, c=0.001)
    batch("eval", [2, 3, 4, 5], False)
    batch("eval_rows", [6, 4], False)
    batch("eval_no_affine", [1, 2, 2, 3], False, eps=1e-3, affine=False)

    def layer(case, shape, eps=1e-5, affine=True, tolerance=1e-5, **scale):
        inputs = {"x": wave(shape, 0, **scale)}
        if affine:
            inputs |= {"weight": wave(shape[-1:], 1, 0.5, 1.0), "bias": wave(shape[-1:], 2, 0.5)}
        add(
            "layer_norm",
            case,
            lambda x, weight=None, bias=None: F.layer_norm(x, shape[-1:], weight, bias, eps),
            inputs,
            {"eps": eps},
            f32_tolerance=tolerance,
        )

    layer("tokens", [2, 3, 8])
    layer("rows_odd", [4, 17], 1e-12)
    layer("no_affine", [3, 5], 1e-6, affine=False)
    layer("offset", [3, 9], d=20.0, tolerance=1e-3)


def activations():
    functions = {
        "relu": (F.relu, {}),
        "relu6": (F.relu6, {}),
        "gelu": (F.gelu, {"approximate": "none"}),
        "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), {"approximate": "tanh"}),
        "silu": (F.silu, {}),
        "sigmoid": (torch.sigmoid, {}),
        "tanh": (torch.tanh, {}),
        "hardswish": (F.hardswish, {}),
        "exp": (torch.exp, {}),
        "log": (torch.log, {}),
        "sqrt": (torch.sqrt, {}),
    }
    for name, (function, options) in functions.items():
        op = "gelu" if name == "gelu_tanh" else name
        prefix = "tanh_form_" if name == "gelu_tanh" else ""
        scale = {"c": 1.9, "d": 2.0} if name in ("log", "sqrt") else {"c": 4.0}
        add(op, prefix + "moderate", lambda x, f=function: f(x), {"x": wave([3, 17], 0, **scale)}, options)
        if name in ("gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "hardswish", "relu6", "exp"):
            scale = {"c": 20.0} if name == "exp" else {"c": 60.0}
            add(op, prefix + "wide", lambda x, f=function: f(x), {"x": wave([37], 1, **scale)}, options)
    kinks = {"relu": [-1, 0, 1], "relu6": [-1, 0, 3, 6, 7], "hardswish": [-4, -3, 0, 3, 4]}
    for op, values in kinks.items():
        add(
            op,
            "kinks",
            lambda x, f=functions[op][0]: f(x),
            {"x": Values(map(float, values))},
            note="the derivative at a kink is a convention; these are PyTorch's",
        )


def softmaxes():
    for op, function in {"softmax": F.softmax, "log_softmax": F.log_softmax}.items():
        for case, shape, axis, c in (
            ("last", [4, 7], -1, 3.0),
            ("odd", [2, 3, 17], -1, 2.0),
            ("middle", [2, 5, 3], 1, 2.0),
            ("one_class", [3, 1], -1, 1.0),
            ("large_logits", [3, 6], -1, 500.0),
        ):
            add(
                op,
                case,
                lambda x, f=function, a=axis: f(x, dim=a),
                {"x": wave(shape, 0, c)},
                {"axis": axis},
                f32_tolerance=1e-3 if c > 100 else 1e-5,
            )


def losses():
    def entropy(case, logits, labels, weight=None, note=None, **options):
        full = {"reduction": "mean", "label_smoothing": 0.0, "ignore_index": -100} | options
        inputs = {"logits": logits, "labels": Values(labels, dtype="i32")}
        if weight:
            inputs["weight"] = Values(weight)
        nothing = all(label == full["ignore_index"] for label in labels)

        def function(logits, labels, weight=None):
            loss = F.cross_entropy(
                logits,
                labels,
                weight,
                ignore_index=full["ignore_index"],
                reduction="sum" if nothing and full["reduction"] == "mean" else full["reduction"],
                label_smoothing=full["label_smoothing"],
            )
            return loss

        add("cross_entropy", case, function, inputs, full, ("weight",), note)

    labels, weights = [2, 0, 4, 1, 2, 3], [1.0, 0.5, 2.0, 0.25, 1.5]
    ignoring = [2, -100, 4, 1, -100, 3]
    for reduction in ("mean", "sum", "none"):
        for smoothing in (0.0, 0.1):
            tail = reduction + ("_smoothed" if smoothing else "")
            options = {"reduction": reduction, "label_smoothing": smoothing}
            entropy(tail, wave([6, 5], 0, 2.0), labels, **options)
            entropy("weights_" + tail, wave([6, 5], 0, 2.0), labels, weights, **options)
            entropy("ignore_" + tail, wave([6, 5], 0, 2.0), ignoring, **options)
            entropy("weights_ignore_" + tail, wave([6, 5], 0, 2.0), ignoring, weights, **options)
    entropy("ignore_class_3", wave([6, 5], 0, 2.0), labels, ignore_index=3)
    entropy("one_row_weights", wave([1, 5], 0, 2.0), [1], weights)
    entropy("odd_classes", wave([3, 19], 0, 2.0), [18, 0, 7])
    entropy("large_logits", wave([4, 3], 0, 200.0), [0, 1, 2, 0])
    entropy("fr08", Values([1.0, 2.0, 3.0, 3.0, 2.0, 1.0], [2, 3]), [2, 1], [1.0, 0.5, 0.25])
    for reduction in ("mean", "sum", "none"):
        entropy(
            "all_ignored_" + reduction,
            wave([3, 5], 0, 2.0),
            [-100] * 3,
            reduction=reduction,
            note="mean: tl's contract is loss 0 and gradient 0, where PyTorch gives NaN"
            if reduction == "mean"
            else None,
        )

    for reduction in ("mean", "sum", "none"):
        options = {"reduction": reduction}
        add(
            "mse_loss",
            reduction,
            lambda x, target, r=reduction: F.mse_loss(x, target, reduction=r),
            {"x": wave([4, 5], 0), "target": wave([4, 5], 1)},
            options,
        )
        add(
            "bce_with_logits",
            reduction,
            lambda x, target, r=reduction: F.binary_cross_entropy_with_logits(x, target, reduction=r),
            {"x": wave([4, 3], 0, 3.0), "target": wave([4, 3], 1, 0.5, 0.5)},
            options,
            ("target",),
        )
        add(
            "bce_with_logits",
            "pos_weight_" + reduction,
            lambda x, target, pos_weight, r=reduction: F.binary_cross_entropy_with_logits(
                x, target, pos_weight=pos_weight, reduction=r
            ),
            {"x": wave([4, 3], 0, 3.0), "target": wave([4, 3], 1, 0.5, 0.5), "pos_weight": Values([3.0, 0.5, 1.0])},
            options,
            ("target", "pos_weight"),
        )
        add(
            "bce",
            reduction,
            lambda x, target, r=reduction: F.binary_cross_entropy(x, target, reduction=r),
            {"x": wave([4, 3], 0, 0.45, 0.5), "target": wave([4, 3], 1, 0.5, 0.5)},
            options,
            ("target",),
        )
    add(
        "bce_with_logits",
        "wide",
        lambda x, target: F.binary_cross_entropy_with_logits(x, target, reduction="none"),
        {"x": Values([-200.0, -20.0, 0.0, 20.0, 200.0, 200.0]), "target": Values([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])},
        {"reduction": "none"},
        ("target",),
    )
    add(
        "bce",
        "edges",
        lambda x, target: F.binary_cross_entropy(x, target, reduction="none"),
        {"x": Values([0.0, 0.0, 1.0, 1.0, 0.25]), "target": Values([0.0, 1.0, 0.0, 1.0, 1.0])},
        {"reduction": "none"},
        ("target",),
        note="PyTorch bounds each logarithm from below by -100 and x (1 - x) in the gradient by 1e-12",
    )


def lookups():
    table, tokens = [7, 4], Values([3, 0, 6, 3, 1, 0, 0, 5, 3, 6], [2, 5], "i32")
    for case, padding in (("plain", None), ("padding_idx0", 0), ("padding_idx3", 3)):
        add(
            "embedding",
            case,
            lambda indices, weight, p=padding: F.embedding(indices, weight, p),
            {"weight": wave(table, 0), "indices": tokens},
            {} if padding is None else {"padding_idx": padding},
            note=None if padding is None else "the row of padding_idx is read but gets no gradient",
        )
    for case, shape, axis, indices in (
        ("rows", [5, 3], 0, [4, 0, 4, 2]),
        ("columns", [3, 6], 1, [5, 1, 1]),
        ("middle", [2, 4, 3], 1, [3, 0]),
        ("negative_axis", [2, 4], -1, [2, 2, 0]),
    ):
        add(
            "index_select",
            case,
            lambda x, indices, a=axis: torch.index_select(x, a, indices),
            {"x": wave(shape, 0), "indices": Values(indices, dtype="i32")},
            {"axis": axis},
        )
    for case, shape, axis, index_shape, indices in (
        ("columns", [3, 4], 1, [3, 2], [0, 3, 1, 1, 2, 0]),
        ("rows", [3, 4], 0, [2, 4], [2, 0, 1, 0, 0, 0, 2, 2]),
        ("last_of_three", [2, 2, 3], 2, [2, 2, 1], [2, 0, 1, 1]),
    ):
        add(
            "gather",
            case,
            lambda x, indices, a=axis: torch.gather(x, a, indices),
            {"x": wave(shape, 0), "indices": Values(indices, index_shape, "i32")},
            {"axis": axis},
        )
    for case, shape, k, axis, largest in (
        ("rows", [3, 9], 3, -1, True),
        ("smallest", [3, 9], 4, -1, False),
        ("whole", [2, 5], 5, -1, True),
        ("axis0", [6, 3], 2, 0, True),
        ("many", [2, 40], 5, -1, True),
    ):

        def function(x, k=k, axis=axis, largest=largest):
            values, indices = torch.topk(x, k, axis, largest, sorted=True)
            return values, {"indices": indices}

        add("topk", case, function, {"x": wave(shape, 0)}, {"k": k, "axis": axis, "largest": largest})


def attention():
    def attend(case, n=2, heads=2, queries=4, keys=4, depth=3, causal=False, mask=None, scale=None, value_depth=None):
        inputs = {
            "query": wave([n, heads, queries, depth], 0, 1.5),
            "key": wave([n, heads, keys, depth], 1, 1.5),
            "value": wave([n, heads, keys, value_depth or depth], 2),
        }
        if mask:
            inputs["key_mask"] = Values(mask, [n, keys], "bool")
        options = {"causal": causal} | ({} if scale is None else {"scale": scale})

        def function(query, key, value, key_mask=None):
            allowed = torch.ones(queries, keys, dtype=torch.bool)
            if causal:
                allowed = allowed.tril()
            if key_mask is not None:
                allowed = allowed & key_mask[:, None, None, :]
            return F.scaled_dot_product_attention(query, key, value, allowed, scale=scale)

        empty = bool(mask) and any(not any(mask[i * keys : (i + 1) * keys]) for i in range(n))
        add(
            "attention",
            case,
            function,
            inputs,
            options,
            note="a query whose keys are all masked gives 0 and no gradient" if empty else None,
        )

    some = [True, True, True, False, True, False, True, True]
    attend("plain")
    attend("causal", causal=True)
    attend("key_mask", mask=some)
    attend("key_mask_causal", mask=some, causal=True)
    attend("key_mask_empty_row", mask=[True, True, False, True] + [False] * 4)
    attend("cross", n=1, queries=3, keys=5, value_depth=2)
    attend("scale", n=1, heads=1, queries=2, keys=3, scale=0.25)
    attend("one_token", n=1, queries=1, keys=1)
    attend("17_tokens", n=1, heads=1, queries=17, keys=17, depth=8, causal=True)


def shapes():
    for case, parts, axis in (
        ("rows", [[2, 3], [1, 3], [3, 3]], 0),
        ("channels", [[2, 2, 2, 3], [2, 2, 2, 1]], 3),
        ("middle", [[2, 1, 3], [2, 4, 3]], 1),
        ("negative_axis", [[2, 3], [2, 2]], -1),
        ("single", [[2, 3]], 0),
    ):
        add(
            "concat",
            case,
            lambda axis=axis, **xs: torch.cat(list(xs.values()), axis),
            {f"x{i}": wave(s, i) for i, s in enumerate(parts)},
            {"axis": axis},
        )
    for case, shape, axis, start, end in (
        ("rows", [5, 3], 0, 1, 4),
        ("columns", [3, 6], 1, 2, 5),
        ("middle", [2, 5, 3], 1, 0, 2),
        ("last_channel", [2, 2, 2, 4], 3, 3, 4),
    ):
        add(
            "slice",
            case,
            lambda x, a=axis, s=start, e=end: x.narrow(a, s, e - s),
            {"x": wave(shape, 0)},
            {"axis": axis, "start": start, "end": end},
        )
    for case, shape, pads, value in (
        ("image", [1, 2, 3, 2], [[0, 0], [1, 2], [0, 1], [0, 0]], 0.0),
        ("row_value", [4], [[2, 1]], -1.5),
        ("channels", [2, 3], [[0, 0], [0, 2]], 0.0),
    ):
        reverse = [n for pair in reversed(pads) for n in pair]
        add(
            "pad",
            case,
            lambda x, p=reverse, v=value: F.pad(x, p, value=v),
            {"x": wave(shape, 0)},
            {"pads": pads, "value": value},
        )
    for case, shape, axes in (
        ("transpose", [3, 5], [1, 0]),
        ("nhwc_to_nchw", [2, 3, 4, 2], [0, 3, 1, 2]),
        ("heads", [2, 3, 2, 4], [0, 2, 1, 3]),
        ("reverse", [2, 3, 4], [2, 1, 0]),
        ("identity", [2, 3], [0, 1]),
    ):
        add("permute", case, lambda x, a=axes: x.permute(a), {"x": wave(shape, 0)}, {"axes": axes})


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in (
        arithmetic,
        reductions,
        products,
        convolutions,
        pools,
        normalisations,
        activations,
        softmaxes,
        losses,
        lookups,
        attention,
        shapes,
    ):
        family()
    write(
        "ops.json",
        {
            "schema": 1,
            "made_with": "torch " + torch.__version__.split("+")[0],
            "formula": "x[i] = d + c * sin(a + b * i)",
        },
        CASES,
    )
