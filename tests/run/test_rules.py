import dataclasses
from typing import Annotated, Literal

import pytest

from fdl.errors import InputError
from fdl.run.rules import (
    NONEMPTY,
    DropRate,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Seed,
    between,
    validate,
)


@dataclasses.dataclass(frozen=True)
class Base:
    steps: PositiveInt = 10


@dataclasses.dataclass(frozen=True)
class Config(Base):
    steps: int = 20
    lr: PositiveFloat = 0.1
    rate: DropRate = 0.0
    share: Fraction = 0.5
    valid: OpenFraction = 0.1
    l2: NonNegativeFloat = 0.0
    seed: Seed = 0
    warmup: NonNegativeInt = 0
    name: Annotated[str, NONEMPTY] | None = None
    hidden: tuple[PositiveInt, ...] = ()
    betas: tuple[Fraction, PositiveFloat] = (0.9, 1.0)
    mode: Literal["a", "b"] = "a"
    flag: bool = False
    angle: Annotated[float, between(-3, 3)] = 0.0
    free: list[float] | None = None


@pytest.mark.parametrize(
    ("name", "good", "bad", "rule"),
    [
        ("steps", 1, 0, "> 0"),  # stated by the base class only
        ("steps", 2, 1.5, "a whole number"),
        ("steps", 2, True, "a whole number"),
        ("lr", 1, 0.0, "> 0"),
        ("lr", 1e-30, float("inf"), "finite"),
        ("lr", 0.5, float("nan"), "finite"),
        ("lr", 0.5, "0.1", "a number"),
        ("rate", 0.0, 1.0, "in [0, 1)"),
        ("rate", 0.999, -0.001, "in [0, 1)"),
        ("share", 1.0, 1.001, "in [0, 1]"),
        ("valid", 0.999, 1.0, "in (0, 1)"),
        ("valid", 1e-9, 0.0, "in (0, 1)"),
        ("l2", 0.0, -1e-9, ">= 0"),
        ("seed", 2**32 - 1, 2**32, "in [0, 2**32)"),
        ("warmup", 0, -1, ">= 0"),
        ("name", None, "", "non-empty"),
        ("name", "x", 3, "text"),
        ("hidden", (1, 2), (1, 0), "> 0"),
        ("hidden", (), (1, 2.0), "a whole number"),
        ("betas", (1.0, 9.0), (9.0, 1.0), "in [0, 1]"),
        ("betas", (0.0, 1e-9), (0.0, 0.0), "> 0"),
        ("betas", (0.5, 2.0), (0.5,), "2 values"),
        ("mode", "b", "c", "one of a, b"),
        ("flag", True, 1, "true or false"),
        ("angle", -3.0, -3.1, "in [-3, 3]"),
        ("free", [1.0, -1.0], [1.0, float("nan")], "finite"),
    ],
)
def test_a_rule_accepts_its_edge_and_refuses_what_lies_beyond(name, good, bad, rule):
    validate(Config(**{name: good}))
    with pytest.raises(InputError) as raised:
        validate(Config(**{name: bad}))
    message = str(raised.value)
    assert message.startswith(f"--{name} must be {rule}, got ") and "\n" not in message


def test_fields_of_inner_settings_are_named_with_a_dot():
    @dataclasses.dataclass(frozen=True)
    class Outer:
        my_optimizer: Config = Config(lr=-2.0)

    with pytest.raises(InputError, match=r"^--my-optimizer\.lr must be > 0, got -2\.0$"):
        validate(Outer())
