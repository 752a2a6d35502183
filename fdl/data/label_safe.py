"""Which changes of an image keep its label, data set by data set; others are refused."""

from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import jax
from jax.typing import ArrayLike

from fdl.data import crops
from fdl.data.augment import random_affine
from fdl.data.colours import random_brightness, random_colour, random_contrast
from fdl.data.elastic import random_elastic
from fdl.errors import InputError
from fdl.types import Array

Change = Callable[[Array, Array], Array]


class LabelSafe(NamedTuple):
    """The largest changes that keep the label of a kind of image.

    Attributes:
      limits: argument of `augmentation` -> its largest value; what is not named changes the label
        at any size.
      reason: what a larger change does.
    """

    limits: dict[str, float]
    reason: str


_LIGHT = {"brightness": 0.3, "contrast": 0.5}  # of pixels in [0, 1]
_PHOTOGRAPH = {**_LIGHT, "scale": 0.3, "translate": 8.0, "shear": 0.2, "crop": 8, "cutout": 16}

LABEL_SAFE = {
    # 8x8 pixels: one is an eighth of the picture
    "digits": LabelSafe(
        {**_LIGHT, "rotate": 15.0, "scale": 0.15, "translate": 1.0, "shear": 0.2}
        | {"elastic": 0.3, "crop": 1, "cutout": 2},
        "6 and 9 are each other turned, 2 and 5 nearly each other mirrored",
    ),
    # 28x28 pixels
    "mnist": LabelSafe(
        {**_LIGHT, "rotate": 20.0, "scale": 0.2, "translate": 3.0, "shear": 0.3}
        | {"elastic": 1.0, "crop": 3, "cutout": 6},
        "6 and 9 are each other turned, 2 and 5 nearly each other mirrored",
    ),
    "letters": LabelSafe(
        {**_LIGHT, "rotate": 15.0, "scale": 0.2, "translate": 3.0, "shear": 0.3}
        | {"elastic": 1.0, "crop": 3, "cutout": 6},
        "b and d are each other mirrored, b and q or n and u each other turned",
    ),
    # 32x32 pixels or more
    "photographs": LabelSafe(
        {**_PHOTOGRAPH, "rotate": 20.0, "mirror": 0.5, "colour": 0.4, "elastic": 1.0},
        "things stand on the ground; few are turned, none upside down",
    ),
    "aerial": LabelSafe(
        {**_PHOTOGRAPH, "rotate": 180.0, "mirror": 0.5, "upside_down": 0.5, "colour": 0.4},
        "what is seen from above has no upper side, but its shape matters",
    ),
}


def augmentation(
    data_set: str | LabelSafe,
    *,
    rotate: float = 0.0,
    scale: float = 0.0,
    translate: float = 0.0,
    shear: float = 0.0,
    elastic: float = 0.0,
    mirror: float = 0.0,
    upside_down: float = 0.0,
    crop: int = 0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    colour: float = 0.0,
    cutout: int = 0,
    unsafe: Collection[str] = (),
) -> Change:
    """Compose random changes of an image that keep its label.

    In this order: mirror, crop, affine, elastic, light and colours, cutout. Each draws from a key
    of its own, derived from that of the image, so that one more change leaves the others as they
    were.

    Args:
      data_set: a name in `LABEL_SAFE`, or a table of your own. The limits are judgements, in
        pixels of that data set: within them validation data decide.
      rotate, scale, translate, shear: as `random_affine`.
      elastic: `random_elastic(amount=...)`, pixels.
      mirror, upside_down: probability of swapping left and right, top and bottom.
      crop: `random_crop(padding=...)`, pixels.
      brightness, contrast, colour: as `random_brightness`, ...; 0.1 is a tenth of black to white.
      cutout: `cutout(size=...)`, pixels.
      unsafe: names of arguments that may pass their limits, since you know better.

    Returns:
      A function (key, image) -> image, for `jax.vmap` over keys and images inside the step.

    Raises:
      InputError: an unknown data set, a change beyond its limit, or an unknown name in `unsafe`.
      ValueError: a negative size, when it is called.

    Example:
      >>> change = augmentation("digits", rotate=10.0, translate=0.5)
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> jax.vmap(change)(keys, jax.numpy.ones((4, 8, 8))).shape
      (4, 8, 8)
      >>> augmentation("digits", mirror=0.5)
      Traceback (most recent call last):
      fdl.errors.InputError: augmentation(mirror=0.5) may change the label of 'digits', ...

    Source: DLB 7.4: "b" and "d", "6" and "9".
    """
    asked: dict[str, float] = {
        "rotate": rotate,
        "scale": scale,
        "translate": translate,
        "shear": shear,
        "elastic": elastic,
        "mirror": mirror,
        "upside_down": upside_down,
        "crop": crop,
        "brightness": brightness,
        "contrast": contrast,
        "colour": colour,
        "cutout": cutout,
    }
    _refuse(data_set, asked, unsafe)
    affine = partial(random_affine, rotate=rotate, scale=scale, translate=translate, shear=shear)
    changes: list[tuple[bool, Callable[..., Array]]] = [
        (bool(mirror), partial(crops.random_flip, axis=1, probability=mirror)),
        (bool(upside_down), partial(crops.random_flip, axis=0, probability=upside_down)),
        (bool(crop), partial(crops.random_crop, padding=crop)),
        (any((rotate, scale, translate, shear)), affine),
        (bool(elastic), partial(random_elastic, amount=elastic)),
        (bool(brightness), partial(random_brightness, amount=brightness)),
        (bool(contrast), partial(random_contrast, amount=contrast)),
        (bool(colour), partial(random_colour, amount=colour)),
        (bool(cutout), partial(crops.cutout, size=cutout)),
    ]

    def change(key: Array, image: ArrayLike) -> Array:
        image = jax.numpy.asarray(image)
        for i, (wanted, function) in enumerate(changes):
            if wanted:
                image = function(jax.random.fold_in(key, i), image)
        return image

    return change


def _refuse(data_set: str | LabelSafe, asked: dict[str, float], unsafe: Collection[str]) -> None:
    """Raise InputError for a change that may make another label right."""
    if isinstance(data_set, str) and data_set not in LABEL_SAFE:
        known = ", ".join(LABEL_SAFE)
        raise InputError(f"augmentation(data_set) must be one of {known}, got {data_set!r}")
    table = LABEL_SAFE[data_set] if isinstance(data_set, str) else data_set
    if unknown := sorted(set(unsafe) - set(asked)):
        raise InputError(f"augmentation(unsafe=...) must name its arguments, got {unknown[0]!r}")
    for name, value in asked.items():
        limit = table.limits.get(name, 0)
        if value > limit and name not in unsafe:
            raise InputError(
                f"augmentation({name}={value}) may change the label of {data_set!r}, "
                f"the limit is {limit}: {table.reason}; unsafe=[{name!r}] allows it"
            )
