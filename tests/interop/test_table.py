"""Tables of names: patterns, layouts, and what does not fit."""

import numpy as np
import pytest

from fdl.errors import InputError
from fdl.interop import Layout, Names, Row, Unused, table
from fdl.interop.table import CONV, CONV_1X1, TRANSPOSED

RNG = np.random.default_rng(0)


def test_numbers_are_carried_over_and_counted_from_one():
    names = Names((Row("a.{i}.{j}.kernel", "layer{i+1}.{j}.w{j-1}"),))
    place = table.places(names, {"a.2.11.kernel": (3,)})["a.2.11.kernel"]
    assert place.names == ("layer3.11.w10",)


def test_the_first_row_that_fits_counts():
    names = Names((Row("a.0.kernel", "first"), Row("a.{i}.kernel", "other{i}")))
    found = table.places(names, {"a.0.kernel": (), "a.1.kernel": ()})
    assert [place.names for place in found.values()] == [("first",), ("other1",)]


@pytest.mark.parametrize("path", ["b.a.0.kernel", "a.0.kernels", "a.x.kernel", "aX0Xkernel"])
def test_a_path_without_a_row_is_a_mistake_in_the_table(path):
    with pytest.raises(ValueError, match=f"no row for {path}"):
        table.places(Names((Row("a.{i}.kernel", "w{i}"),)), {path: ()})


def test_one_name_for_two_paths_is_a_mistake_in_the_table():
    with pytest.raises(ValueError, match="several paths the name w"):
        table.places(Names((Row("a.{i}", "w"),)), {"a.0": (), "a.1": ()})


@pytest.mark.parametrize(
    ("layout", "shape"),
    [(TRANSPOSED, (3, 2)), (CONV, (4, 3, 5, 2)), (CONV, (4, 3, 5)), (CONV_1X1, (4, 3, 1, 1))],
)
def test_layouts_come_back(layout, shape):
    theirs = RNG.normal(size=shape)
    np.testing.assert_array_equal(layout.write(layout.read(theirs)), theirs)


def test_a_convolution_kernel_is_turned_round():
    """Each (out, in) plane of PyTorch's stays as it is: neither flipped nor transposed."""
    theirs = RNG.normal(size=(4, 3, 5, 2))
    ours = CONV.read(theirs)
    assert ours.shape == (5, 2, 3, 4)
    np.testing.assert_array_equal(ours[..., 1, 2], theirs[2, 1])


def test_an_array_can_be_made_of_several_tensors():
    biases = Layout(lambda a, b: a + b, lambda x: (x, x * 0))
    place = table.places(Names((Row("bias", ("b_i", "b_h"), biases),)), {"bias": (3,)})["bias"]
    assert (place.names, place.shapes) == (("b_i", "b_h"), ((3,), (3,)))


def test_the_layout_tells_the_shape_in_the_file():
    place = table.places(Names((Row("k", "w", CONV),)), {"k": (5, 2, 3, 4)})["k"]
    assert place.shapes == ((4, 3, 5, 2),)
    with pytest.raises(InputError, match=r"1 of wrong shape: w \(5, 2, 3, 4\) must be \(4, 3, 5"):
        table.check("x", [place], [], {"w": (5, 2, 3, 4)})


def test_what_does_not_fit_is_listed_and_a_long_list_is_cut():
    names = Names((Row("a.{i}", "w{i}"),))
    wanted = table.places(names, {f"a.{i}": () for i in range(9)}).values()
    with pytest.raises(InputError) as raised:
        table.check("folder", wanted, ["spare"], {"other": (), "spare": ()})
    assert str(raised.value) == (
        "folder does not fit the model: 9 missing: w0, w1, w2, w3, w4 and 4 more;"
        " 1 unexpected: other"
    )


def test_what_is_unused_stands_beside_what_is_used():
    names = Names((), (Unused("{i}.mean", "n{i}.count", np.int64(3)), Unused("x", "mask")))
    assert dict(table.extras(names, ["0.mean", "1.var", "x"])) == {"n0.count": 3, "mask": None}


def test_a_backbone_may_lack_the_prefix():
    rows = (Row("k", ("net.w", "net.v")), Row("output", "head.net.w"))
    names = Names(rows, (Unused("k", "net.count"),), prefix="net.")
    assert table.without_prefix(names, ["net.w"]) == names
    bare = table.without_prefix(names, ["w", "v"])
    assert [row.theirs for row in bare.rows] == [("w", "v"), "head.net.w"]
    assert bare.unused[0].theirs == "count"


def test_shapes_are_told_without_making_an_array():
    huge = (1 << 20, 1 << 20)
    place = table.places(Names((Row("k", "w", TRANSPOSED),)), {"k": huge})["k"]
    assert place.shapes == (huge,)
