import jax
import jax.numpy as jnp
import pytest

from fdl.run.summary import leaves, summary


def test_counts_and_bytes_are_those_counted_by_hand():
    layer = {"bias": jnp.zeros(10, jnp.float32), "kernel": jnp.zeros((8, 10), jnp.float32)}
    norm = {"bias": jnp.zeros(8, jnp.float32), "scale": jnp.zeros(8, jnp.float32)}
    convolution = {"kernel": jnp.zeros((5, 5, 3, 8), jnp.bfloat16)}
    params = {"conv": convolution, "dense": layer, "norm": norm}
    extra = {"norm": {"mean": jnp.zeros(8, jnp.float32), "var": jnp.ones(8, jnp.float32)}}
    # 5*5*3*8 = 600 numbers of 2 bytes; 8 + 8 of the norm and 8*10 + 10 of the layer, 4 bytes each.
    expected = """\
path          shape    dtype     count  bytes
conv.kernel   5x5x3x8  bfloat16    600  1,200
dense.bias    10       float32      10     40
dense.kernel  8x10     float32      80    320
norm.bias     8        float32       8     32
norm.scale    8        float32       8     32
parameters                         706  1,624  (1.6 KiB)
norm.mean     8        float32       8     32
norm.var      8        float32       8     32
other state                         16     64  (64 B)"""
    assert summary(params, extra) == expected


@pytest.mark.parametrize(
    ("leaf", "shape", "dtype", "count", "size"),
    [
        (jnp.zeros((), jnp.int8), (), "int8", 1, 1),
        (jnp.zeros((0, 7), jnp.float32), (0, 7), "float32", 0, 0),
        (jax.ShapeDtypeStruct((50_000, 12_288), jnp.bfloat16), (50_000, 12_288), "bfloat16",
         614_400_000, 1_228_800_000),
        (jax.random.key(0), (), "key<fry>", 1, 8),
        (2.5, (), "float64", 1, 8),
    ],
)  # fmt: skip
def test_every_kind_of_leaf_is_counted(leaf, shape, dtype, count, size):
    with jax.enable_x64(True):
        assert leaves([leaf]) == [("0", shape, dtype, count, size)]


def test_a_model_without_parameters_and_a_bare_array_have_a_table_too():
    assert summary({}).splitlines()[1].split() == ["parameters", "0", "0", "(0", "B)"]
    assert summary(jnp.zeros(3, jnp.float32)).splitlines()[1].split() == ["3", "float32", "3", "12"]
