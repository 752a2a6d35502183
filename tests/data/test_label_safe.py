"""Changes that keep a label pass, others are refused; and what the limits mean for real digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fdl import data
from fdl.data import LABEL_SAFE, LabelSafe, augmentation
from fdl.errors import InputError


@pytest.mark.parametrize("name", ["digits", "mnist", "letters"])
@pytest.mark.parametrize(
    "change", [{"rotate": 180.0}, {"mirror": 0.5}, {"upside_down": 0.5}, {"colour": 0.1}]
)
def test_characters_are_neither_turned_round_nor_mirrored(name, change):
    ((argument, value),) = change.items()
    with pytest.raises(
        InputError, match=rf"augmentation\({argument}={value}\) may change .*{name}"
    ):
        augmentation(name, **change)
    augmentation(name, **change, unsafe=[argument])


@pytest.mark.parametrize("name", LABEL_SAFE)
def test_every_limit_is_allowed_and_more_is_not(name):
    for argument, limit in LABEL_SAFE[name].limits.items():
        augmentation(name, **{argument: limit})
        with pytest.raises(InputError, match="unsafe="):
            augmentation(name, **{argument: limit + 1})


def test_a_table_of_your_own_and_its_reason():
    table = LabelSafe({"rotate": 5.0}, "arrows point somewhere")
    augmentation(table, rotate=5.0)
    with pytest.raises(InputError, match="the limit is 5.0: arrows point somewhere"):
        augmentation(table, rotate=6.0)
    with pytest.raises(InputError, match="must be one of digits, .* got 'cats'"):
        augmentation("cats", rotate=5.0)
    with pytest.raises(InputError, match="must name its arguments, got 'spin'"):
        augmentation(table, unsafe=["spin"])


def moved(change, x):
    keys = jax.random.split(jax.random.key(0), len(x))
    return np.asarray(jax.jit(jax.vmap(change))(keys, jnp.asarray(x)))


def read(x, train):
    """Label by the nearest neighbour in the training part."""
    flat, known = x.reshape(len(x), -1), train["x"].reshape(len(train["x"]), -1)
    distance = (flat**2).sum(1)[:, None] - 2 * flat @ known.T + (known**2).sum(1)[None]
    return train["y"][distance.argmin(1)]


def test_a_digit_within_the_limits_is_read_as_before_and_a_turned_6_as_a_9():
    train, test = data.digits()
    safe = augmentation("digits", rotate=15.0, scale=0.15, shear=0.2)
    plain = (read(test["x"], train) == test["y"]).mean()
    assert (read(moved(safe, test["x"]), train) == test["y"]).mean() > plain - 0.06
    half_turn = lambda key, image: data.affine(image, -jnp.eye(2))  # noqa: E731
    sixes = test["x"][test["y"] == 6]
    assert (read(sixes, train) == 6).mean() > 0.95
    assert (read(moved(half_turn, sixes), train) == 9).mean() > 0.6


def test_changes_are_composed_in_order_each_from_its_own_key():
    image, key = jax.random.uniform(jax.random.key(1), (8, 8)), jax.random.key(2)
    both = augmentation("photographs", mirror=0.5, contrast=0.3)
    mirrored = data.random_flip(jax.random.fold_in(key, 0), image)
    by_hand = data.random_contrast(jax.random.fold_in(key, 6), mirrored, amount=0.3)
    np.testing.assert_allclose(both(key, image), by_hand, rtol=1e-12)
    np.testing.assert_array_equal(augmentation("photographs")(key, image), image)


@pytest.mark.slow
def test_every_change_changes_an_image():
    image = jax.random.uniform(jax.random.key(1), (8, 8, 3))
    names = {name for table in LABEL_SAFE.values() for name in table.limits}
    assert len(names) == 12
    for name in sorted(names):
        change = augmentation("digits", **{name: 1}, unsafe=[name])
        found = jax.vmap(change, (0, None))(jax.random.split(jax.random.key(3), 4), image)
        assert (np.asarray(found) != np.asarray(image)).any(), name
