"""Embedded pictures."""

import numpy as np

from fdl.data.embedded import embedded
from fdl.data.splits import Splits

_TRAIN = 1437


def digits(*, flat: bool = False) -> Splits:
    """Return handwritten digits, cut in the order of the file: the test part is by other writers.

    1797 pictures of 8x8 pixels, one digit each, 10 classes of about 180. Each pixel counts the
    black dots (0..16) in a 4x4 block of a 32x32 bitmap and is divided by 16. The file is ordered by
    writers, so the last 360 pictures come from hands that the first 1437 do not show. This split is
    hard and honest (logistic regression .900, 3 nearest neighbours .967); on a random one most
    methods pass .98. For a validation part see `split_validation(train, by="order")`.

    Args:
      flat: rows of 64 instead of 8x8 pictures.

    Returns:
      Splits(train, test) of {"x", "y"}: x float32 in [0, 1] of shape (1437, 8, 8) and (360, 8, 8),
      or (.., 64); y int32 in 0..9.

    Example:
      >>> train, test = digits()
      >>> train["x"].shape, test["y"].shape, train["y"][:5].tolist(), float(train["x"].max())
      ((1437, 8, 8), (360,), [0, 1, 2, 3, 4], 1.0)

    Source: Alpaydin, Kaynak 1998, "Optical recognition of handwritten digits", UCI repository, its
    test part, as copied by scikit-learn (`load_digits`). Licence CC BY 4.0.
    """
    stored = embedded("digits")
    x = stored["images"].astype(np.float32) / 16
    if flat:
        x = x.reshape(len(x), -1)
    y = stored["labels"].astype(np.int32)
    return Splits({"x": x[:_TRAIN], "y": y[:_TRAIN]}, {"x": x[_TRAIN:], "y": y[_TRAIN:]})
