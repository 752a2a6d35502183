"""What every test runs under: eight virtual devices, 64 bits, no silent broadcasting of ranks."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# Before jax is imported. NPROC sizes XLA's thread pool: the collectives of eight devices dead-lock
# when they outnumber its threads.
os.environ["NPROC"] = str(max(8, os.cpu_count() or 1))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


def optimise(programs: bool) -> None:
    jax.config.update("jax_disable_most_optimizations", not programs)


def pytest_configure(config: pytest.Config) -> None:
    """Compile without optimisations where only quick tests run: compiling is most of their time.

    With the slow tests all programs are what users run, but for those of modules that ask for the
    first fixture below.
    """
    optimise(config.option.markexpr != "not slow")


@pytest.fixture(scope="module")
def compile_quickly(request: pytest.FixtureRequest) -> Iterator[None]:
    optimise(False)
    yield
    pytest_configure(request.config)


@pytest.fixture
def compile_as_users_do(request: pytest.FixtureRequest) -> Iterator[None]:
    optimise(True)
    yield
    pytest_configure(request.config)


@pytest.fixture(scope="session")
def fixture_dir() -> Callable[[str], Path]:
    """`fixture_dir("losses")` is the folder tests/fixtures/losses."""
    return lambda name: Path(__file__).parent / "fixtures" / name
