"""What every test runs under: eight virtual devices, 64 bits, no silent broadcasting of ranks."""

import os
from collections.abc import Callable
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


@pytest.fixture(scope="session")
def fixture_dir() -> Callable[[str], Path]:
    """`fixture_dir("losses")` is the folder tests/fixtures/losses."""
    return lambda name: Path(__file__).parent / "fixtures" / name
