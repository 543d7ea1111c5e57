"""Single operations of PyTorch as a resident worker (see worker.py), which is told each case as a JSON object.

A case has "op", "threads", "precision", "shape" and what the operation needs besides; `training` calls run forward and
backward with a given gradient, as tl's side does.
"""

import torch
from torch.nn import functional

import worker

KIND = {"f32": torch.float32, "bf16": torch.bfloat16}


def leaf(*shape, kind=torch.float32):
    return torch.randn(*shape, dtype=kind).requires_grad_()


def forward_and_backward(function, *leaves):
    grad = torch.ones_like(function())

    def call():
        for x in leaves:
            x.grad = None
        function().backward(grad)

    return call


def without_gradients(function):
    def call():
        with torch.inference_mode():
            function()

    return call


def gemm(case, kind):
    m, n, k = case["shape"]
    a, b, c = torch.randn(m, k, dtype=kind), torch.randn(k, n, dtype=kind), torch.empty(m, n, dtype=kind)
    return lambda: torch.mm(a, b, out=c)


def conv(case, kind):
    n, h, w, inputs = case["shape"]
    settings = {"stride": case["stride"], "padding": case["padding"], "groups": case["groups"]}
    x = torch.randn(n, inputs, h, w, dtype=kind).to(memory_format=torch.channels_last)
    weight = torch.randn(case["outputs"], inputs // case["groups"], case["kernel"], case["kernel"], dtype=kind)
    weight = weight.to(memory_format=torch.channels_last)
    if case["direction"] == "forward":
        return without_gradients(lambda: functional.conv2d(x, weight, **settings))
    grad = torch.randn_like(functional.conv2d(x, weight, **settings))
    wanted = [case["direction"] == "backward_data", case["direction"] == "backward_weight", False]
    both = [case[key] for key in ("stride", "padding")]
    return lambda: torch.ops.aten.convolution_backward(grad, x, weight, None, [both[0]] * 2, [both[1]] * 2, [1, 1], False, [0, 0],
                                                       case["groups"], wanted)


def optimizer_step(rule, count, **settings):
    weight = leaf(count)
    weight.grad = torch.randn(count)
    return rule([weight], lr=1e-3, weight_decay=1e-4, fused=True, **settings).step


def layer(case):
    op, shape = case["op"], case["shape"]
    if op in ("batch_norm_relu/training", "max_pool/forward", "global_avg_pool/forward"):
        n, h, w, c = shape
        x = torch.randn(n, c, h, w).to(memory_format=torch.channels_last)
        if op == "max_pool/forward":
            return without_gradients(lambda: functional.max_pool2d(x, 3, 2, 1))
        if op == "global_avg_pool/forward":
            return without_gradients(lambda: x.mean((2, 3)))
        x.requires_grad_()
        gamma, beta, mean, variance = leaf(c), leaf(c), torch.zeros(c), torch.ones(c)
        return forward_and_backward(lambda: functional.relu(functional.batch_norm(x, mean, variance, gamma, beta, True)), x, gamma,
                                    beta)
    if op in ("attention/forward", "attention/training"):
        q, k, v = leaf(*shape), leaf(*shape), leaf(*shape)
        run = lambda: functional.scaled_dot_product_attention(q, k, v)
        return without_gradients(run) if op == "attention/forward" else forward_and_backward(run, q, k, v)
    if op in ("linear_gelu/forward", "linear_gelu/training"):
        rows, inputs, outputs = shape
        x, weight, bias = leaf(rows, inputs), leaf(outputs, inputs), leaf(outputs)
        run = lambda: functional.gelu(functional.linear(x, weight, bias))
        return without_gradients(run) if op == "linear_gelu/forward" else forward_and_backward(run, x, weight, bias)
    if op == "adamw/step":
        return optimizer_step(torch.optim.AdamW, shape[0])
    if op == "sgd/step":
        return optimizer_step(torch.optim.SGD, shape[0], momentum=0.9)
    x = leaf(*shape)
    if op == "cross_entropy/training":
        labels = torch.arange(shape[0]) % shape[1]
        return forward_and_backward(lambda: functional.cross_entropy(x, labels), x)
    if op == "layer_norm/training":
        gamma, beta = leaf(shape[1]), leaf(shape[1])
        return forward_and_backward(lambda: functional.layer_norm(x, shape[1:], gamma, beta), x, gamma, beta)
    if op == "softmax/forward":
        return without_gradients(lambda: functional.softmax(x, -1))
    if op == "gelu/forward":
        return without_gradients(lambda: functional.gelu(x))
    raise NotImplementedError(op)


def prepare(case):
    name = f"torch {torch.__version__.split('+')[0]}"
    if case is None:
        return name, None
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    kind = KIND[case["precision"]]
    return name, {"gemm": gemm, "conv": conv}.get(case["op"], lambda c, _: layer(c))(case, kind)


if __name__ == "__main__":
    worker.serve(prepare)
