"""Files of a checkpoint: what is read, and what is refused before it can do harm."""

import json
import os
import struct
import time

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from fdl.errors import DiskError, InputError
from fdl.interop import Names, Row, Unused, files, load_weights, save_weights
from fdl.interop.table import TRANSPOSED

NAMES = Names(
    (Row("kernel", "weight", TRANSPOSED), Row("bias", "bias")),
    (Unused("bias", "count", np.array(7)),),
)
ENTRY = {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}


def linear(seed=0, **changes):
    return nnx.Linear(2, 3, **changes, rngs=nnx.Rngs(seed))


def values(module):
    return {"kernel": np.asarray(module.kernel[...]), "bias": np.asarray(module.bias[...])}


def written(path, header, body=b"\0" * 12, *, length=None):
    """Write a file with any header, proper or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def test_a_module_comes_back_from_a_folder(tmp_path):
    module = linear(bias_init=nnx.initializers.normal())
    save_weights(module, tmp_path / "a", names=NAMES)
    back = load_weights(linear(1), tmp_path / "a", names=NAMES)
    for name, value in values(module).items():
        assert values(back)[name].tobytes() == value.tobytes()


def test_what_is_written_is_in_the_order_of_the_reference(tmp_path):
    """A transposed view has its memory in the other order; the file must not."""
    module = linear()
    save_weights(module, tmp_path / "a", names=NAMES)
    raw = (tmp_path / "a" / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    start, end = header["weight"]["data_offsets"]
    stored = np.frombuffer(raw[8 + length :][start:end], "<f4").reshape(header["weight"]["shape"])
    np.testing.assert_array_equal(stored, values(module)["kernel"].T)
    assert header["count"]["shape"] == [] and header["__metadata__"] == {"format": "pt"}


def test_a_module_is_not_changed_and_may_be_abstract(tmp_path):
    module, other = linear(0), linear(1)
    save_weights(module, tmp_path / "a", names=NAMES)
    before = values(other)
    load_weights(other, tmp_path / "a", names=NAMES)
    np.testing.assert_array_equal(values(other)["kernel"], before["kernel"])
    abstract = nnx.eval_shape(linear)
    back = load_weights(abstract, tmp_path / "a", names=NAMES)
    np.testing.assert_array_equal(values(back)["kernel"], values(module)["kernel"])


def test_shards_and_their_index_come_back_whole(tmp_path):
    module = linear()
    save_weights(module, tmp_path / "a", names=NAMES, max_shard_bytes=13)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
        "model.safetensors.index.json",
    ]
    index = json.loads((tmp_path / "a" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * 9 + 8
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / "a" / file)
    back = load_weights(linear(1), tmp_path / "a", names=NAMES)
    np.testing.assert_array_equal(values(back)["kernel"], values(module)["kernel"])


@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_kept_or_widened(half, tmp_path):
    module = linear()
    save_weights(module, tmp_path / "a", names=NAMES, dtype=half)
    kept = load_weights(linear(1), tmp_path / "a", names=NAMES)
    wide = load_weights(linear(1), tmp_path / "a", names=NAMES, dtype=jnp.float32)
    rounded = values(module)["kernel"].astype(half)
    assert values(kept)["kernel"].dtype == half and values(wide)["kernel"].dtype == np.float32
    np.testing.assert_array_equal(values(kept)["kernel"], rounded)
    np.testing.assert_array_equal(values(wide)["kernel"], rounded.astype(np.float32))
    save_weights(kept, tmp_path / "b", names=NAMES)
    one, two = ((tmp_path / n / "model.safetensors").read_bytes() for n in "ab")
    assert one == two


def test_paths_to_keep_are_not_read(tmp_path):
    save_weights(nnx.Linear(2, 5, rngs=nnx.Rngs(0)), tmp_path / "a", names=NAMES)
    names = Names((*NAMES.rows, Row("x.bias", "bias")), NAMES.unused)
    with pytest.raises(InputError, match=r"2 of wrong shape: bias \(5,\) must be \(3,\), weight"):
        load_weights(linear(), tmp_path / "a", names=NAMES)
    back = load_weights(linear(), tmp_path / "a", names=names, keep="kernel|bias")
    np.testing.assert_array_equal(values(back)["kernel"], values(linear())["kernel"])


def test_names_are_strict_in_both_directions(tmp_path):
    save_file({"weight": np.ones((3, 2), "f"), "gamma": np.ones(3, "f")}, tmp_path / "a")
    with pytest.raises(InputError, match="1 missing: bias; 1 unexpected: gamma"):
        load_weights(linear(), tmp_path / "a", names=NAMES)


def test_integers_are_no_weights(tmp_path):
    save_file({"weight": np.ones((3, 2), "i4"), "bias": np.ones(3, "f")}, tmp_path / "a")
    with pytest.raises(InputError, match="weight must be of type F64, F32, F16, BF16, got I32"):
        load_weights(linear(), tmp_path / "a", names=NAMES)


def test_types_that_are_no_floats_are_refused():
    with pytest.raises(ValueError, match=r"load_weights\(dtype=...\) must be a floating-point"):
        load_weights(linear(), "nowhere", names=NAMES, dtype=jnp.int32)


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="must be an empty folder or a new one"):
        save_weights(linear(), tmp_path, names=NAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(DiskError, match="cannot be written: No space left"):
        save_weights(linear(), tmp_path / "a", names=NAMES)
    assert not list(tmp_path.iterdir())


HEADERS = {
    "a length beyond the file": ({}, {"length": 1 << 62}, "no proper length"),
    "a negative length": ({}, {"length": (1 << 64) - 1}, "no proper length"),
    "no JSON": (b"{'weight': 1}", {}, "has no proper JSON"),
    "no UTF-8": (b'{"\xff": 1}', {}, "has no proper JSON"),
    "a list": ([], {}, "must hold a JSON object, got list"),
    "depth without end": (b"[" * 100_000, {}, "has no proper JSON"),
    "a name twice": (b'{"a": 1, "a": 1}', {}, "a key occurs twice"),
    "no entry": ({"w": 3}, {}, "wrong entry for w"),
    "a negative size": ({"w": ENTRY | {"shape": [-3]}}, {}, "wrong entry for w"),
    "a size that is no number": ({"w": ENTRY | {"shape": ["3"]}}, {}, "wrong entry for w"),
    "a size that is a truth value": (
        {"w": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {},
        "wrong entry for w",
    ),
    "sizes that overflow": ({"w": ENTRY | {"shape": [1 << 62, 4]}}, {}, "wrong entry for w"),
    "a size of many digits": (
        b'{"w": {"dtype": "F32", "shape": [' + b"9" * 5000 + b"]}}",
        {},
        "has no proper JSON",
    ),
    "another number of bytes": ({"w": ENTRY | {"shape": [2]}}, {}, "wrong entry for w"),
    "bytes behind the end": ({"w": ENTRY | {"data_offsets": [12, 24]}}, {}, "wrong entry for w"),
    "an unknown type": ({"w": ENTRY | {"dtype": "F7"}}, {}, "of the unknown type F7"),
    "a type that is no word": ({"w": ENTRY | {"dtype": 7}}, {}, "wrong entry for w"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_hostile_header_is_refused_in_one_line(case, tmp_path):
    header, how, told = HEADERS[case]
    path = written(tmp_path / "x.safetensors", header, **how)
    start = time.perf_counter()
    with pytest.raises(InputError, match=told) as raised:
        files.Tensors(path)
    assert time.perf_counter() - start < 1
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


def test_tensors_that_share_bytes_are_refused(tmp_path):
    shared = {"weight": ENTRY | {"shape": [3, 1]}, "bias": ENTRY}
    path = written(tmp_path / "x.safetensors", shared)
    with pytest.raises(InputError, match="is damaged"), files.Tensors(path) as tensors:
        tensors.get("bias")


def test_a_sparse_file_of_a_gigabyte_is_refused_by_its_names(tmp_path):
    entry = {"dtype": "F32", "shape": [1 << 28], "data_offsets": [0, 1 << 30]}
    path = written(tmp_path / "x.safetensors", {"evil": entry}, b"")
    os.truncate(path, path.stat().st_size + (1 << 30))
    start = time.perf_counter()
    with pytest.raises(InputError, match="2 missing: bias, weight; 1 unexpected: evil"):
        load_weights(linear(), path, names=NAMES)
    assert time.perf_counter() - start < 1


def test_an_enormous_header_is_not_read(tmp_path):
    path = written(tmp_path / "x.safetensors", b"{", b"", length=33 << 20)
    os.truncate(path, 40 << 20)
    with pytest.raises(InputError, match="no proper length"):
        files.Tensors(path)


@pytest.mark.parametrize(
    "file",
    ["../a.safetensors", "/etc/a.safetensors", "b/a.safetensors", "..", "a.bin", 3, None, ["a"]],
)
def test_an_index_cannot_point_out_of_its_folder(file, tmp_path):
    save_weights(linear(), tmp_path / "a", names=NAMES)
    inner = tmp_path / "inner"
    inner.mkdir()
    index = {"weight_map": {"weight": file}}
    (inner / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"a shard must be a plain \*.safetensors name"):
        files.Tensors(inner)


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({}, "weight_map must be an object"),
        ({"weight_map": {}}, "weight_map must be an object"),
        ({"weight_map": ["a.safetensors"]}, "weight_map must be an object"),
        ({"weight_map": {"w": "b.safetensors"}}, "b.safetensors is missing"),
        ({"weight_map": {"v": "a.safetensors"}}, "v is not in a.safetensors"),
        ({"weight_map": {"w": "a.safetensors"}}, "must list every tensor of its shards"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(index, told, tmp_path):
    save_file({"w": np.ones(3, "f"), "u": np.ones(3, "f")}, tmp_path / "a.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=told):
        files.Tensors(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    for name in "ab":
        save_file({"w": np.ones(3, "f"), name: np.ones(3, "f")}, tmp_path / f"{name}.safetensors")
    where = {"w": "a.safetensors", "a": "a.safetensors", "b": "b.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    with pytest.raises(InputError, match="must list every tensor of its shards, each once"):
        files.Tensors(tmp_path)


def test_folders_that_hold_no_checkpoint_are_refused(tmp_path):
    with pytest.raises(InputError, match="is neither a folder nor a file"):
        files.Tensors(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"must hold model\.safetensors or"):
        files.Tensors(tmp_path)
    for name in "ab":
        save_file({"w": np.ones(3, "f")}, tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match=r"must hold model\.safetensors or"):
        files.Tensors(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InputError, match="is missing"):
        files.Tensors(tmp_path)
    with pytest.raises(InputError, match="is missing"):
        files.read_json(tmp_path / "config.json")


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(InputError, match="is no safetensors file"):
        files.Tensors(tmp_path)
