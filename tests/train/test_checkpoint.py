import os
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fdl.errors import CheckpointError, DiskError, InputError, NonFiniteError
from fdl.train import storage
from fdl.train.checkpoint import Checkpoints
from fdl.train.manifest import DTYPES

ROOT = Path(__file__).resolve().parents[2]


def state(step: int) -> dict:
    rng = np.random.default_rng(step)
    return {"w": rng.normal(size=(30, 20)).astype(np.float32), "step": np.int32(step)}


TEMPLATE = {"w": np.zeros((30, 20), np.float32), "step": np.int32(0)}


def bits(tree) -> list[tuple[str, tuple, bytes]]:
    leaves = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        for x in jax.tree.leaves(tree)
    ]
    return [(str(x.dtype), x.shape, np.asarray(x).tobytes()) for x in leaves]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints 5 and 10; for copying, as saving takes its time."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, state(step), config={"lr": 0.1, "step": step})
    return folder


@pytest.fixture
def copy(two: Path, tmp_path: Path) -> Path:
    return shutil.copytree(two, tmp_path / "checkpoints")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is saved comes back


def test_every_type_comes_back_bit_for_bit(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [3, 1, 0]])
    tree = {name: values.astype(name) for name in DTYPES}
    tree |= {f"scalar_{name}": np.array(1).astype(name) for name in DTYPES}
    tree |= {"empty": np.zeros((0, 3), np.float32), "none": None, "list": [np.int8(1)]}
    tree |= {"subnormal": np.array([5e-324, -0.0]), "transposed": np.arange(6.0).reshape(2, 3).T}
    tree |= {f"key_{k}": jax.random.key(3, impl=k) for k in ("threefry2x32", "rbg", "unsafe_rbg")}
    tree |= {"keys": jax.random.split(jax.random.key(4), 5), "größe/a b": np.ones(2)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, tree, config={})
        found = checkpoints.latest(tree)
    assert jax.tree.structure(found.tree) == jax.tree.structure(tree)
    assert bits(found.tree) == bits(tree)


def test_states_of_optimizers_come_back_as_their_own_types(tmp_path: Path) -> None:
    params = {"w": jnp.ones((3, 2), jnp.bfloat16), "b": jnp.zeros(2, jnp.float32)}
    tx = optax.chain(optax.adamw(1e-3), optax.contrib.reduce_on_plateau())
    tree = (params, tx.init(params))  # the plateau's best value is infinite, and that is right
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, config={})
        found = checkpoints.latest(jax.eval_shape(lambda: tree))
    assert jax.tree.structure(found.tree) == jax.tree.structure(tree)
    assert bits(found.tree) == bits(tree)


def test_configuration_and_step_come_back(copy: Path) -> None:
    with Checkpoints(copy) as checkpoints:
        found = checkpoints.latest(TEMPLATE)
        assert checkpoints.newest == 10
    assert (found.step, found.config, found.rejected) == (10, {"lr": 0.1, "step": 10}, [])
    assert bits(found.tree) == bits(state(10))


def test_the_state_is_that_of_the_call_though_the_next_step_reuses_its_memory(
    tmp_path: Path,
) -> None:
    update = jax.jit(lambda x: x + 1, donate_argnums=0)
    size = 300_000
    device, host = jnp.zeros(size, jnp.float32), np.zeros(size, np.float32)
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        for step in range(4):
            checkpoints.save(step, (device, host), config={})
            device = update(device)
            host += 1
        checkpoints.wait()
        for step in reversed(range(4)):
            found = checkpoints.latest((host, host))
            assert [set(leaf.tolist()) for leaf in found.tree] == [{step}, {step}]
            shutil.rmtree(tmp_path / str(step))


@pytest.mark.devices
@pytest.mark.parametrize("sizes", [(4, 1), (1, 4), (4, 2), (8, 4)])
def test_a_state_goes_on_with_another_number_of_devices(
    tmp_path: Path, sizes: tuple[int, int]
) -> None:
    def placed(count: int, spec: PartitionSpec) -> dict:
        mesh = jax.make_mesh(
            (count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:count]
        )
        return jax.device_put(state(7), NamedSharding(mesh, spec))

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, placed(sizes[0], PartitionSpec()), config={})
        template = placed(sizes[1], PartitionSpec())
        found = checkpoints.latest(template)
    assert bits(found.tree) == bits(state(7))
    assert all(
        a.sharding == b.sharding and len(a.devices()) == sizes[1]
        for a, b in zip(jax.tree.leaves(found.tree), jax.tree.leaves(template), strict=True)
    )


@pytest.mark.devices
def test_an_array_spread_over_devices_is_saved_whole(tmp_path: Path) -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    array = np.arange(8.0)
    spread = jax.device_put(array, NamedSharding(mesh, PartitionSpec("data")))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, spread, config={})
        assert checkpoints.latest(array).tree.tolist() == array.tolist()


def test_a_relative_folder_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("größe/a b")
    monkeypatch.chdir("/")
    checkpoints.save(1, state(1), config={})
    checkpoints.close()
    assert names(tmp_path / "größe/a b") == ["1"]


# Which are kept


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    losses = {1: 3.0, 2: 0.5, 3: 2.0, 4: float("nan"), 5: 0.5, 6: 9.0}
    with Checkpoints(tmp_path, keep=2, best="loss") as checkpoints:
        for step, loss in losses.items():
            checkpoints.save(step, state(step), config={}, metrics={"loss": loss})
        checkpoints.wait()
        assert names(tmp_path) == ["2", "5", "6"]  # of equal ones, the older
        assert checkpoints.best(TEMPLATE).step == 2
    with Checkpoints(tmp_path, keep=1, best="loss") as checkpoints:  # another process: reads them
        checkpoints.save(7, state(7), config={}, metrics={"loss": 0.4})
        checkpoints.wait()
        assert checkpoints.best(TEMPLATE).step == 7
        assert names(tmp_path) == ["7"]


def test_higher_can_be_better(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=1, best="accuracy", higher_is_better=True) as checkpoints:
        for step, accuracy in enumerate([0.5, 0.9, 0.7, float("inf")]):
            checkpoints.save(step, state(step), config={}, metrics={"accuracy": accuracy})
        checkpoints.wait()
        assert names(tmp_path) == ["1", "3"]
        assert checkpoints.best(TEMPLATE).step == 1


@pytest.mark.parametrize("metrics", [{}, {"loss": float("nan")}, {"loss": float("-inf")}])
def test_without_a_finite_metric_none_is_best(tmp_path: Path, metrics: dict) -> None:
    with Checkpoints(tmp_path, best="loss") as checkpoints:
        checkpoints.save(1, state(1), config={}, metrics=metrics)
        assert checkpoints.best(TEMPLATE) is None
        assert checkpoints.latest(TEMPLATE).step == 1


def test_the_next_best_is_taken_when_the_best_is_damaged(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=3, best="loss") as checkpoints:
        for step, loss in ((1, 0.2), (2, 0.1), (3, 0.3)):
            checkpoints.save(step, state(step), config={}, metrics={"loss": loss})
        checkpoints.wait()
        (tmp_path / "2/manifest.ocdbt").unlink()
        found = checkpoints.best(TEMPLATE)
    assert found.step == 1
    assert found.rejected == ["2: manifest.ocdbt is missing (renamed to 2.corrupt)"]


def test_times_of_files_decide_nothing(copy: Path) -> None:
    for path in copy.rglob("*"):
        os.utime(path, (0, 0) if "10" in path.parts else (2**32, 2**32))
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.latest(TEMPLATE).step == 10


# What is refused


@pytest.mark.parametrize("step", [10, 9, 0, -1])
def test_a_step_that_is_not_after_the_newest_is_refused(copy: Path, step: int) -> None:
    with Checkpoints(copy) as checkpoints:
        with pytest.raises(ValueError, match=rf"save\(step=...\) must be > 10.*got {step}$"):
            checkpoints.save(step, state(1), config={})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_not_saved(tmp_path: Path, value: float) -> None:
    tree = {"a": np.ones(2), "net": {"w": jnp.full((2, 2), value, jnp.bfloat16)}}
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(NonFiniteError, match=r"^step 3 is not saved: not finite are net.w$"):
            checkpoints.save(3, tree, config={})
        assert checkpoints.newest is None
    assert names(tmp_path) == []


@pytest.mark.parametrize("tree", [{}, {"a": np.zeros((0, 2))}, {"a": "text"}])
def test_a_tree_without_numbers_is_refused(tmp_path: Path, tree: dict) -> None:
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(ValueError, match="must hold"):
        checkpoints.save(1, tree, config={})


def test_another_model_is_refused_and_no_damage(copy: Path) -> None:
    template = {"w": np.zeros((30, 21), np.float32), "bias": np.zeros(2), "step": np.int64(0)}
    with Checkpoints(copy) as checkpoints, pytest.raises(InputError) as caught:
        checkpoints.latest(template)
    text = str(caught.value)
    assert "w is float32[30,21] here, float32[30,20] there" in text
    assert "bias is float64[2] here, missing there" in text
    assert "step is int64[] here, int32[] there" in text  # Orbax alone would cast
    assert "\n" not in text and names(copy) == ["10", "5"]


def test_a_later_format_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdl.train.manifest.FORMAT", 0)
    with Checkpoints(copy) as checkpoints, pytest.raises(InputError, match="newer version of fdl"):
        checkpoints.latest(TEMPLATE)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Checkpoints\(keep=...\) must be >= 1, got 0"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(ValueError, match="must name a metric"):
        Checkpoints(tmp_path).best(TEMPLATE)
    with pytest.raises(ValueError, match="read_only=True"):
        Checkpoints(tmp_path, read_only=True).save(1, state(1), config={})
    with pytest.raises(TypeError):
        Checkpoints(tmp_path).save(1.5, state(1), config={})


# Damage


def flip_a_byte(folder: Path) -> None:
    path = max(files(folder), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(folder: Path) -> None:
    path = max(files(folder), key=lambda path: path.stat().st_size)
    os.truncate(path, path.stat().st_size // 2)


def empty_every_file(folder: Path) -> None:
    for path in files(folder):
        os.truncate(path, 0)


def delete_metadata(folder: Path) -> None:
    (folder / "_METADATA").unlink()


def delete_data(folder: Path) -> None:
    shutil.rmtree(folder / "ocdbt.process_0")


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def garbage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff{garbage")


def other_settings(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"lr": 0.1', '"lr": 0.9'))


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def another_step(folder: Path) -> None:
    if folder.name == "10":  # there is a whole state in it, but of another step
        shutil.rmtree(folder)
        shutil.copytree(folder.parent / "5", folder)
    else:
        empty_folder(folder)


DAMAGE = [
    flip_a_byte,
    truncate,
    empty_every_file,
    delete_metadata,
    delete_data,
    empty_folder,
    garbage_manifest,
    other_settings,
    a_file,
    another_step,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_passed_over(
    copy: Path, damage: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    damage(copy / "10")
    with Checkpoints(copy, read_only=True) as checkpoints:
        looked = checkpoints.latest(TEMPLATE)
        assert names(copy) == ["10", "5"]
    with Checkpoints(copy) as checkpoints:
        found = checkpoints.latest(TEMPLATE)
        assert (found.step, found.config["step"]) == (looked.step, looked.config["step"]) == (5, 5)
        assert bits(found.tree) == bits(state(5))
        assert len(found.rejected) == 1 and found.rejected[0].startswith("10: ")
        assert "\n" not in found.rejected[0] and "renamed to 10.corrupt" in found.rejected[0]
        assert names(copy) == ["10.corrupt", "5"]
        checkpoints.save(10, state(10), config={"lr": 0.1, "step": 10})  # its number is free again
        assert bits(checkpoints.latest(TEMPLATE).tree) == bits(state(10))
        damage(copy / "10")
        checkpoints.latest(TEMPLATE)
    assert names(copy) == ["10.2.corrupt", "10.corrupt", "5"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("damage", DAMAGE)
def test_when_all_are_damaged_it_is_an_error_each_time(
    copy: Path, damage: Callable[[Path], None]
) -> None:
    damage(copy / "10")
    damage(copy / "5")
    for _ in range(2):
        with Checkpoints(copy) as checkpoints:
            with pytest.raises(CheckpointError, match=r"can be used: 10: .*; 5: ") as caught:
                checkpoints.latest(TEMPLATE)
        assert "\n" not in str(caught.value)
        assert names(copy) == ["10", "5"]


def test_what_was_set_aside_is_no_reason_to_start_again(copy: Path) -> None:
    flip_a_byte(copy / "10")
    with Checkpoints(copy) as checkpoints:
        checkpoints.latest(TEMPLATE)
    shutil.rmtree(copy / "5")
    with Checkpoints(copy) as checkpoints, pytest.raises(CheckpointError, match="10.corrupt"):
        checkpoints.latest(TEMPLATE)


def test_only_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "007").mkdir()
    for read_only in (False, True):
        assert Checkpoints(tmp_path, read_only=read_only).latest(TEMPLATE) is None
    assert Checkpoints(tmp_path / "absent", read_only=True).latest(TEMPLATE) is None
    assert not (tmp_path / "absent").exists()


def break_at_random(folder: Path, rng: random.Random) -> str:
    path = rng.choice(files(folder))
    data = bytearray(path.read_bytes())
    how = rng.choice(["flip", "flip", "flip", "truncate", "empty", "delete"])
    if how == "flip":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data[: rng.randrange(len(data))] if how == "truncate" else data)
    if how == "empty":
        os.truncate(path, 0)
    if how == "delete":
        path.unlink()
    return how


@pytest.mark.parametrize("tries", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_no_damage_at_random_loads_something_wrong(
    two: Path, tmp_path: Path, tries: int, capfd: pytest.CaptureFixture[str]
) -> None:
    outcomes = []
    for seed in range(tries):
        folder = shutil.copytree(two, tmp_path / str(seed))
        how = break_at_random(folder / "10", random.Random(seed))
        with Checkpoints(folder) as checkpoints:
            found = checkpoints.latest(TEMPLATE)
        right = bits(found.tree) == bits(state(found.step)) and found.config == {
            "lr": 0.1,
            "step": found.step,
        }
        assert right and (found.step == 10) == (found.rejected == []), (seed, how, found.rejected)
        outcomes.append((how, found.step))
        shutil.rmtree(folder)
    assert capfd.readouterr() == ("", "")
    assert sum(step == 5 for _, step in outcomes) > tries / 2  # and the damage was real
    print({outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))})


def test_a_reader_beside_a_writer_never_fails(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=1) as writer, Checkpoints(tmp_path, read_only=True) as reader:
        writer.save(0, state(0), config={})
        writer.wait()
        last = 0
        for step in range(1, 15):
            writer.save(step, state(step), config={})
            found = reader.latest(TEMPLATE)
            assert found.step >= last and bits(found.tree) == bits(state(found.step))
            assert found.rejected == []
            last = found.step


def test_a_checkpoint_that_goes_while_it_is_read_is_not_damaged(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = storage.check_files

    def check_late(path: Path, about: dict) -> None:
        if path.name == "10":
            shutil.rmtree(path)  # as a writer that has saved two newer ones
        check(path, about)

    monkeypatch.setattr(storage, "check_files", check_late)
    found = Checkpoints(copy, read_only=True).latest(TEMPLATE)
    assert (found.step, found.rejected) == (5, [])


# The disk


def test_a_full_disk_is_one_line_and_the_older_checkpoints_stay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    big = {"w": np.random.default_rng(0).integers(0, 256, 4_000_000).astype(np.uint8)}
    small = {"w": np.zeros(3, np.uint8)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, small, config={})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
        try:
            with pytest.raises(DiskError) as caught:
                checkpoints.save(2, big, config={})
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert f"saving step 2 failed in {tmp_path} (" in str(caught.value)
        assert str(caught.value).endswith(" bytes free): file too large")
        assert checkpoints.newest == 1
        assert names(tmp_path) == ["1"]  # what was written of it takes no room
        assert checkpoints.latest(small).step == 1
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []  # Orbax would log pages


@pytest.mark.parametrize("surfaces", ["save", "wait", "close", "latest"])
def test_an_error_in_the_background_surfaces_at_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, surfaces: str
) -> None:
    def fail(path: Path) -> str:
        raise OSError(28, "No space left on device", str(path))

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1), config={})
    checkpoints.wait()
    with monkeypatch.context() as patch:
        patch.setattr(storage, "_digest", fail)
        checkpoints.save(2, state(2), config={})
        with pytest.raises(
            DiskError, match=r"saving step 2 failed in .*: no space left on device$"
        ):
            {
                "save": lambda: checkpoints.save(3, state(3), config={}),
                "wait": checkpoints.wait,
                "close": checkpoints.close,
                "latest": lambda: checkpoints.latest(TEMPLATE),
            }[surfaces]()
    assert names(tmp_path) == ["1"]
    checkpoints.close()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest(TEMPLATE).step == 1


def test_a_folder_that_vanishes_is_not_made_again(tmp_path: Path) -> None:
    with Checkpoints(tmp_path / "run/checkpoints") as checkpoints:
        checkpoints.save(1, state(1), config={})
        checkpoints.wait()
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(DiskError, match="saving step 2 failed"):
            checkpoints.save(2, state(2), config={})
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="opening the checkpoints failed"):
        Checkpoints(tmp_path / "file" / "checkpoints")
    with pytest.raises(DiskError, match="cannot be read"):
        Checkpoints(tmp_path / "file", read_only=True).latest(TEMPLATE)


def test_saving_leaks_no_files_and_no_threads(tmp_path: Path) -> None:
    import threading

    counts = []
    for i in range(4):
        with Checkpoints(tmp_path / str(i)) as checkpoints:
            for step in range(4):
                checkpoints.save(step, state(step), config={})
            checkpoints.latest(TEMPLATE)
        counts.append((len(os.listdir("/dev/fd")), threading.active_count()))
    assert counts[1] == counts[-1]


def test_a_save_that_was_cut_off_is_told_once(copy: Path) -> None:
    (copy / "15.orbax-checkpoint-tmp").mkdir()
    (copy / "3.removed").mkdir()
    with Checkpoints(copy, read_only=True) as checkpoints:
        assert checkpoints.latest(TEMPLATE).rejected == []
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.latest(TEMPLATE).rejected == ["15: its save was cut off"]
        assert checkpoints.latest(TEMPLATE).rejected == []
    assert names(copy) == ["10", "5"]


def test_a_checkpoint_of_an_earlier_version_still_loads() -> None:
    # Written once by the version of this library that began with format 1; never write it again.
    folder = Path(__file__).with_name("golden") / "format_1"
    template = {
        "params": {"w": jnp.zeros((2, 3), jnp.float32), "b": np.zeros(2, jnp.bfloat16)},
        "opt": (np.int32(0), {"mu": np.float64(0)}),
        "empty": np.zeros((0, 2), np.float32),
        "key": jax.random.key(0),
    }
    with Checkpoints(folder, read_only=True, best="loss") as checkpoints:
        found = checkpoints.best(template)
    assert (found.step, found.rejected) == (7, [])
    assert found.config == {"seed": 42, "name": "größe", "sizes": [1, 2]}
    assert np.array_equal(
        found.tree["params"]["w"], np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    )
    assert found.tree["params"]["b"].tolist() == [1, -2]
    assert found.tree["opt"] == (7, {"mu": 1 / 3}) and found.tree["empty"].shape == (0, 2)
    assert jax.random.uniform(found.tree["key"]) == jax.random.uniform(jax.random.key(42))
