import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl.train import manifest


def test_leaves_are_named_by_their_paths() -> None:
    tree = {"mlp": [{"w": 1.0}], "opt": (2.0, None)}
    assert manifest.named_leaves(tree) == {"mlp.0.w": 1.0, "opt.0": 2.0}


def test_two_paths_that_read_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match="'a.b' twice"):
        manifest.named_leaves({"a.b": 1.0, "a": {"b": 2.0}})


def test_transposed_and_foreign_arrays_become_contiguous_and_native() -> None:
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    host = manifest.to_host({"a": array})["a"]
    assert host.flags.c_contiguous and host.dtype.isnative
    assert host.tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("leaf", ["text", np.array([object()]), np.array("2020", "datetime64[D]")])
def test_what_is_not_numbers_is_refused(leaf: object) -> None:
    with pytest.raises(ValueError, match=r"to_host\(tree=...\) must hold arrays of numbers, a is"):
        manifest.to_host({"a": leaf})


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64", "float8_e5m2"])
def test_nan_is_found_anywhere_and_infinity_in_arrays_only(dtype: str) -> None:
    bad = {
        "nan": np.array(np.nan, dtype),
        "nan_array": np.array([1, np.nan], dtype),
        "inf_array": np.array([1, np.inf], dtype),
    }
    good = {"inf": np.array(-np.inf, dtype), "one": np.ones(3, dtype), "none": np.ones(0, dtype)}
    assert manifest.nonfinite({**good, **bad}) == list(bad)


def test_integers_are_always_finite() -> None:
    arrays = {name: np.ones(2, name) for name in ("bool", "int4", "int32", "uint64")}
    assert manifest.nonfinite(arrays) == []


def test_no_changed_character_of_a_sealed_object_passes() -> None:
    text = manifest.seal({"step": 3, "config": {"lr": 0.1, "name": "é"}})
    content = json.loads(text)
    for i in range(len(text)):
        changed = text[:i] + chr(ord(text[i]) ^ 1) + text[i + 1 :]
        try:
            found = manifest.unseal(changed)
        except ValueError:
            continue
        assert {**found, "sha256": content["sha256"]} == content  # a blank between two words


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", '{"step": 3}', "[" * 10])
def test_what_was_never_sealed_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        manifest.unseal(text)


def test_differences_name_each_leaf_and_both_kinds() -> None:
    saved = {"w": np.zeros((2, 3), np.float32), "old": np.zeros(1), "k": jax.random.key(0)}
    about = manifest.describe(1, saved, manifest.to_host(saved), config={}, metrics={})
    same = jax.eval_shape(lambda: {**saved, "old": jnp.zeros(1, jnp.float64)})
    assert manifest.differences(about, same) == []
    other = {"w": np.zeros((2, 3), jnp.bfloat16), "new": np.int32(0), "k": np.zeros(2, np.uint32)}
    assert sorted(manifest.differences(about, other)) == [
        "k is uint32[2] here, key<fry>[] there",
        "new is int32[] here, missing there",
        "old is missing here, float64[1] there",
        "w is bfloat16[2,3] here, float32[2,3] there",
    ]


@pytest.mark.parametrize("name", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_are_placed_as_keys_of_their_own_kind(name: str) -> None:
    keys = jax.random.split(jax.random.key(5, impl=name), 3)
    data = manifest.to_host({"k": keys})["k"]
    for like in (keys, jax.ShapeDtypeStruct(keys.shape, keys.dtype)):
        placed = manifest.place(data, like)
        assert placed.dtype == keys.dtype
        assert np.array_equal(jax.random.key_data(placed), jax.random.key_data(keys))


def test_placed_arrays_are_where_and_as_free_as_the_template() -> None:
    value = np.arange(4.0)
    second = jax.devices()[1]
    assert isinstance(manifest.place(value, np.zeros(4)), np.ndarray)
    free = manifest.place(value, jnp.zeros(4))
    assert not free.committed
    fixed = manifest.place(value, jax.device_put(jnp.zeros(4), second))
    assert fixed.committed and fixed.devices() == {second}
    assert jax.device_put(value, second) + free == pytest.approx(2 * value)


def test_a_configuration_that_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError):
        manifest.describe(0, {}, {}, config={"f": object()}, metrics={})
