"""Time the ways to write a convolution on this machine against PyTorch, and what `auto` chooses.

    python scripts/bench/conv.py [--rounds 7] [--only depthwise] [--forms] [--json FILE]

Every contender convolves the same float32 arrays, forward and with the gradients of both, and must
agree with XLA's own convolution. A figure is the median over interleaved rounds of the ratio inside
a round. Without PyTorch the ratios are to XLA's own form.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from timing import calls, ratio, rounds

from fdl import ops
from fdl.ops.conv_forms import choose
from fdl.ops.windows import place

try:
    import torch
except ImportError:
    torch = None


class Shape(NamedTuple):
    """A convolution; `goals` are the ratios auto / PyTorch, forward and with gradients."""

    batch: int
    size: int
    inputs: int
    outputs: int
    window: int
    strides: int = 1
    groups: int = 1
    goals: tuple[float | None, float | None] = (None, None)
    forms: tuple[str, ...] = ("lax",)

    @property
    def options(self) -> dict[str, int]:
        same = (self.window - 1) // 2
        return {"strides": self.strides, "padding": same, "groups": self.groups}


DENSE, ONE, DEEP = ("lax", "matmul"), ("lax", "matmul"), ("lax", "shifts", "fft")
SHAPES = {
    "3x3 64-64, 32x32": Shape(8, 32, 64, 64, 3),
    "3x3 512-512, 4x4": Shape(32, 4, 512, 512, 3, forms=DENSE),
    "3x3 stride 2, 64-128": Shape(8, 32, 64, 128, 3, 2, forms=DENSE),
    "1x1 256-256, 16x16": Shape(8, 16, 256, 256, 1, goals=(None, 0.8), forms=ONE),
    "1x1 stride 2, 64-128": Shape(8, 32, 64, 128, 1, 2, goals=(None, 0.8), forms=ONE),
    "5x5 1-6, 28x28": Shape(128, 28, 1, 6, 5, forms=("lax", "matmul", "shifts")),
    "5x5 6-16, 14x14": Shape(128, 14, 6, 16, 5, forms=("lax", "matmul")),
    "7x7 stride 2, 3-64, 64x64": Shape(8, 64, 3, 64, 7, 2, forms=DENSE),
    "3x3 1-32, 8x8": Shape(64, 8, 1, 32, 3, forms=("lax", "matmul", "shifts")),
    "3x3 32-64, 8x8": Shape(64, 8, 32, 64, 3, forms=DENSE),
    "3x3 64-64, 4x4": Shape(64, 4, 64, 64, 3, forms=DENSE),
    "depthwise 3x3, 128 ch": Shape(8, 32, 128, 128, 3, 1, 128, (2.5, None), DEEP),
    "depthwise 7x7, 96 ch": Shape(8, 28, 96, 96, 7, 1, 96, (2.5, None), DEEP),
    "depthwise 31x31, 64 ch": Shape(4, 32, 64, 64, 31, 1, 64, (0.1, None), ("lax", "fft")),
    "8 groups 3x3, 128 ch": Shape(8, 32, 128, 128, 3, 1, 8, (None, 25), ("lax", "blocks")),
    "32 groups 3x3, 128 ch": Shape(8, 32, 128, 128, 3, 1, 32, (None, 25), ("lax", "blocks")),
}


def jax_runs(shape: Shape, x: np.ndarray, kernel: np.ndarray, form: str) -> list[Callable]:
    """Return the forward pass and that with both gradients, compiled."""
    forward = jax.jit(partial(ops.conv, implementation=form, **shape.options))

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array) -> Any:
        return jax.value_and_grad(lambda x, k: jnp.square(forward(x, k)).sum(), (0, 1))(x, kernel)

    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    return [partial(forward, x, kernel), partial(both, x, kernel)]


def torch_runs(shape: Shape, x: np.ndarray, kernel: np.ndarray) -> list[Callable]:
    a = torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_()
    k = torch.from_numpy(np.transpose(kernel, (3, 2, 0, 1)).copy()).requires_grad_()
    options = {
        {"strides": "stride"}.get(name, name): value for name, value in shape.options.items()
    }
    conv = partial(torch.nn.functional.conv2d, **options)

    def forward() -> Any:
        with torch.no_grad():
            return conv(a, k)

    def both() -> Any:
        loss = conv(a, k).square().sum()
        return loss, torch.autograd.grad(loss, (a, k))

    return [forward, both]


def measure(shape: Shape, number: int, every: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((shape.batch, shape.size, shape.size, shape.inputs), np.float32)
    kernel = rng.standard_normal(
        (shape.window, shape.window, shape.inputs // shape.groups, shape.outputs), np.float32
    )
    kernel /= np.sqrt(np.float32(kernel[..., 0].size))
    strides, padding, _ = shape.options.values()
    window = (shape.window,) * 2
    windows = place("conv", jnp.asarray(x), window, strides=strides, padding=padding)[1]
    named = (
        choose(windows, shape.batch, shape.inputs, shape.outputs, shape.groups)._asdict().items()
    )
    forms = dict.fromkeys(("lax", *(shape.forms if every else ()), "auto"))
    made = {form: jax_runs(shape, x, kernel, form) for form in forms}
    loss, gradients = made["lax"][1]()
    for form, (_, both) in made.items():
        other, others = both()
        np.testing.assert_allclose(other, loss, rtol=1e-4, err_msg=form)
        for a, b in zip(gradients, others, strict=True):
            size = float(abs(a).max())
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * size, err_msg=form)
    if torch is not None:
        made["torch"] = torch_runs(shape, x, kernel)
        np.testing.assert_allclose(float(made["torch"][1]()[0].detach()), loss, rtol=1e-4)
    rows: dict[str, Any] = {"auto": ", ".join(f"{part} {form}" for part, form in named)}
    peer = "lax" if torch is None else "torch"
    for part, name in enumerate(("forward", "with gradients")):
        turns = {form: calls(runs[part]) for form, runs in made.items()}
        for turn in turns.values():
            turn(2)
        spent = rounds(turns, number, seconds=0.05)
        rows[name] = {form: ratio(spent, form, peer) for form in made if form != peer}
        rows[f"{name}, {peer}, ms"] = 1e3 * statistics.median(spent[peer])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds, 7 or more")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    parser.add_argument("--forms", action="store_true", help="all forms, not what auto takes alone")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    if torch is None:
        print("PyTorch is not installed: the ratios are to XLA's own form")
    figures = {}
    for title, shape in SHAPES.items():
        if args.only in title:
            figures[title] = row = measure(shape, args.rounds, args.forms)
            print(f"{title}: auto is {row['auto']}")
            for part, goal in zip(("forward", "with gradients"), shape.goals, strict=True):
                shown = "  ".join(f"{form} {value:.2f}" for form, value in row[part].items())
                met = "" if goal is None else f"   (goal {goal})"
                print(f"  {part:15} {shown}{met}", flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"jax": jax.__version__, "rounds": args.rounds, "figures": figures}, file)


if __name__ == "__main__":
    main()
