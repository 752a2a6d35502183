import numpy as np

from fdl.data import fingerprint

X = np.arange(6.0).reshape(2, 3)


def test_equal_arrays_have_equal_fingerprints_in_any_order_and_layout():
    parts = {"x": X, "y": X[0]}
    strided = {"y": X[0].copy(), "x": np.asfortranarray(X)}
    assert fingerprint(parts) == fingerprint(strided)


def test_every_difference_changes_it():
    others = [{"x": X + 1e-12}, {"x": X.T}, {"x": X.ravel()}, {"x": X.astype("f")}, {"z": X}]
    assert len({fingerprint(arrays) for arrays in [{"x": X}, {}, *others]}) == 7
