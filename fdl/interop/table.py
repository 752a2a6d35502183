"""Which name and layout a reference gives to each array of a module: one table an architecture.

A pattern is a path with numbers left open: `{i}` stands for one or more digits, and `{i+1}` on the
reference's side for that number plus one. Our paths are the module's attributes joined by points.
"""

import collections
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from fdl.errors import InputError

_PLACE = re.compile(r"\{(\w+?)([+-]\d+)?\}")
_SHOWN = 5  # names in an error message


class Layout(NamedTuple):
    """How to turn a reference's array into ours, and back.

    `write` uses methods and operators of arrays only (`x.T`, `x.reshape(...)`, `x[...]`, `+`), so
    that it also tells the shape of an array that does not exist yet.

    Attributes:
      read: the reference's arrays, one for each name of the row, to ours.
      write: ours to the reference's, a tuple where the row has several names.
    """

    read: Callable[..., Any]
    write: Callable[[Any], Any]


def _out_last(x: Any) -> Any:
    return x.transpose(*range(2, x.ndim), 1, 0)


def _out_first(x: Any) -> Any:
    return x.transpose(x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))


SAME = Layout(lambda x: x, lambda x: x)
TRANSPOSED = Layout(lambda x: x.T, lambda x: x.T)  # torch's Linear is (out, in), ours (in, out)
CONV = Layout(_out_last, _out_first)  # torch's Conv is (out, in, *window), ours (*window, in, out)
CONV_1X1 = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])  # an affine map


class Row(NamedTuple):
    """One line of a table.

    Attributes:
      ours: pattern of our path.
      theirs: pattern of the reference's name; several where `layout` makes one array of them.
      layout: from theirs to ours and back.
    """

    ours: str
    theirs: str | tuple[str, ...]
    layout: Layout = SAME


class Unused(NamedTuple):
    """A tensor of the reference that tells us nothing: it may be missing and is not read.

    Attributes:
      ours: pattern of the path of ours that it stands beside.
      theirs: pattern of its name.
      value: what is written, so that the reference finds what it wants; None: nothing.
    """

    ours: str
    theirs: str
    value: np.ndarray | None = None


class Tied(NamedTuple):
    """A second name of an array that has a row: it may be missing, and is not written.

    Where it is there it must have the same values. A network that has an array of its own for this
    name, because its weights are not tied, has a row for it: the row counts then.

    Attributes:
      ours: pattern of our path.
      theirs: pattern of the second name.
      layout: of what stands there.
    """

    ours: str
    theirs: str
    layout: Layout = SAME


class Names(NamedTuple):
    """How one reference names the arrays of one architecture.

    Attributes:
      rows: the first whose pattern fits a path counts.
      unused: names that a file may have besides.
      prefix: what names begin with, which files of the bare backbone leave out.
      tied: second names of arrays, such as of an embedding that is the output's kernel as well.
    """

    rows: tuple[Row, ...]
    unused: tuple[Unused, ...] = ()
    prefix: str = ""
    tied: tuple[Tied, ...] = ()


class Place(NamedTuple):
    """Where an array of ours is in a reference's file.

    Attributes:
      names: of the tensors it is made of.
      layout: that makes it of them.
      shapes: that they must have.
    """

    names: tuple[str, ...]
    layout: Layout
    shapes: tuple[tuple[int, ...], ...]


def places(names: Names, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Place]:
    """Look up where each array of a module is.

    Args:
      names: the table.
      shapes: of the arrays of the module, by path.

    Returns:
      A place for each path.

    Raises:
      ValueError: when the table has no row for a path, or gives two of them one name.

    Example:
      >>> table = Names((Row("layers.{i}.kernel", "layer{i+1}.weight", TRANSPOSED),))
      >>> place = places(table, {"layers.0.kernel": (3, 2)})["layers.0.kernel"]
      >>> place.names, place.shapes
      (('layer1.weight',), ((2, 3),))
    """
    found = {path: _place(names.rows, path, shape) for path, shape in shapes.items()}
    used = collections.Counter(name for place in found.values() for name in place.names)
    if twice := [name for name, count in used.items() if count > 1]:
        raise ValueError(f"the table of names gives several paths the name {twice[0]}")
    return found


def extras(names: Names, paths: Collection[str]) -> Iterator[tuple[str, np.ndarray | None]]:
    """List the names that a file may have besides, with what is written there.

    Example:
      >>> table = Names((), (Unused("{i}.mean", "{i}.num_batches_tracked", np.array(0)),))
      >>> list(extras(table, ["3.mean", "3.var"]))
      [('3.num_batches_tracked', array(0))]
    """
    for row in names.unused:
        for path in paths:
            if (numbers := _numbers(row.ours, path)) is not None:
                yield _filled(row.theirs, numbers), row.value


def copies(
    names: Names, shapes: Mapping[str, tuple[int, ...]], first: Collection[Place] = ()
) -> Iterator[tuple[str, Place]]:
    """List the second places of arrays, where a file may have them once more.

    Args:
      names: the table.
      shapes: of the arrays of the module, by path.
      first: the places of all its arrays, whose names are taken.

    Yields:
      A path and its second place.

    Example:
      >>> rows, tied = (Row("embedding", "embed.weight"),), (Tied("embedding", "out.weight"),)
      >>> table = Names(rows, tied=tied)
      >>> [(path, place.names) for path, place in copies(table, {"embedding": (3, 2)})]
      [('embedding', ('out.weight',))]
    """
    taken = {name for place in first for name in place.names}
    for row in (Row(*tied) for tied in names.tied):
        for path, shape in shapes.items():
            if _numbers(row.ours, path) is not None:
                place = _place((row,), path, shape)
                if taken.isdisjoint(place.names):
                    yield path, place


def without_prefix(names: Names, present: Collection[str]) -> Names:
    """Take the prefix out of a table if no name in a file begins with it.

    Example:
      >>> table = Names((Row("kernel", "net.weight"), Row("bias", "head.bias")), prefix="net.")
      >>> [row.theirs for row in without_prefix(table, ["weight"]).rows]
      ['weight', 'head.bias']
    """
    if not names.prefix or any(name.startswith(names.prefix) for name in present):
        return names

    def bare(theirs: Any) -> Any:
        if isinstance(theirs, tuple):
            return tuple(map(bare, theirs))
        return theirs.removeprefix(names.prefix)

    rows = tuple(row._replace(theirs=bare(row.theirs)) for row in names.rows)
    unused = tuple(row._replace(theirs=bare(row.theirs)) for row in names.unused)
    tied = tuple(row._replace(theirs=bare(row.theirs)) for row in names.tied)
    return Names(rows, unused, tied=tied)


def check(
    source: str,
    wanted: Collection[Place],
    allowed: Collection[str],
    present: Mapping[str, tuple[int, ...]],
) -> None:
    """Raise unless a file has what is wanted in the right shapes, and nothing that is not allowed.

    Args:
      source: what the message begins with.
      wanted: the places that are read.
      allowed: further names that may be there.
      present: the shapes in the file by name.

    Raises:
      InputError: listing the names that are missing, unexpected or of another shape.
    """
    shapes = {n: s for place in wanted for n, s in zip(place.names, place.shapes, strict=True)}
    missing = shapes.keys() - present.keys()
    unexpected = present.keys() - shapes.keys() - set(allowed)
    wrong = [
        f"{name} {present[name]} must be {shapes[name]}"
        for name in sorted(shapes.keys() & present.keys())
        if shapes[name] != present[name]
    ]
    parts = {"missing": sorted(missing), "unexpected": sorted(unexpected), "of wrong shape": wrong}
    if any(parts.values()):
        told = "; ".join(f"{len(p)} {what}: {_shortened(p)}" for what, p in parts.items() if p)
        raise InputError(f"{source} does not fit the model: {told}")


def _place(rows: Collection[Row], path: str, shape: tuple[int, ...]) -> Place:
    for row in rows:
        if (numbers := _numbers(row.ours, path)) is not None:
            theirs = (row.theirs,) if isinstance(row.theirs, str) else row.theirs
            names = tuple(_filled(pattern, numbers) for pattern in theirs)
            # float32: the type does not matter for the shape
            out = jax.eval_shape(row.layout.write, jax.ShapeDtypeStruct(shape, np.float32))
            out = out if isinstance(out, tuple) else (out,)
            return Place(names, row.layout, tuple(each.shape for each in out))
    raise ValueError(f"the table of names has no row for {path}")


def _numbers(pattern: str, path: str) -> dict[str, int] | None:
    """Return what the open numbers of a pattern are in a path; None where it does not fit."""
    parts = _PLACE.split(pattern)  # text, name, offset, text, name, offset, ..., text
    regex = re.escape(parts[0])
    for name, text in zip(parts[1::3], parts[3::3], strict=True):
        regex += rf"(?P<{name}>\d+){re.escape(text)}"
    match = re.fullmatch(regex, path)
    return match and {name: int(number) for name, number in match.groupdict().items()}


def _filled(pattern: str, numbers: Mapping[str, int]) -> str:
    return _PLACE.sub(lambda m: str(numbers[m[1]] + int(m[2] or 0)), pattern)


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:100] for name in names[:_SHOWN]) + more
