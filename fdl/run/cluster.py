"""How this process is to find the other processes of its run, read from its environment."""

import importlib.util
from collections.abc import Mapping
from typing import NamedTuple

from fdl.errors import InputError

VARIABLES = ("FDL_COORDINATOR", "FDL_PROCESSES", "FDL_PROCESS")


class Plan(NamedTuple):
    """How to join; what is None, the cluster knows."""

    how: str  # "single", "explicit", "tpu", or jax's own name of a cluster that it can read
    coordinator: str | None = None  # host:port
    rank: int | None = None  # of this process, in [0, size)
    size: int | None = None  # processes, >= 2


def plan(environment: Mapping[str, str]) -> Plan:
    """Decide from environment variables how this process joins a run.

    FDL_COORDINATOR=host:port, FDL_PROCESSES=n and FDL_PROCESS=i (0 <= i < n) say everything;
    FDL_PROCESSES=1 means one process, whatever else is set. Without them a cluster is taken that
    `jax.distributed` can read: Open MPI, Slurm, Cloud TPU, Kubernetes (an Indexed Job, where the
    package `kubernetes` is installed). Otherwise the process is alone.

    Args:
      environment: variables, as in `os.environ`.

    Returns:
      The plan.

    Raises:
      InputError: a variable is missing, malformed or out of range.

    Example:
      >>> plan({}).how
      'single'
      >>> plan({"FDL_COORDINATOR": "10.0.0.1:1234", "FDL_PROCESSES": "2", "FDL_PROCESS": "1"})
      Plan(how='explicit', coordinator='10.0.0.1:1234', rank=1, size=2)
    """
    given = {name: environment[name] for name in VARIABLES if environment.get(name)}
    if not given:
        return Plan(_detect(environment) or "single")
    if given.get("FDL_PROCESSES") == "1":
        return Plan("single")
    missing = [name for name in VARIABLES if name not in given]
    if missing:
        raise InputError(f"{' and '.join(missing)} must be set, as {next(iter(given))} is")
    size, rank = _whole(given, "FDL_PROCESSES", 1), _whole(given, "FDL_PROCESS", 0)
    if rank >= size:
        raise InputError(f"FDL_PROCESS must be < FDL_PROCESSES={size}, got {rank}")
    host, _, port = given["FDL_COORDINATOR"].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(f"FDL_COORDINATOR must be host:port, got {given['FDL_COORDINATOR']!r}")
    return Plan("explicit", given["FDL_COORDINATOR"], rank, size)


def _whole(given: Mapping[str, str], name: str, low: int) -> int:
    text = given[name]
    if not text.isdecimal() or int(text) < low:
        raise InputError(f"{name} must be a whole number >= {low}, got {text!r}")
    return int(text)


def _detect(environment: Mapping[str, str]) -> str | None:
    """Name the cluster that this environment belongs to, if it has more than one process.

    jax itself would also join a "cluster" of one Slurm task, and then hide all accelerators but
    one. The order is jax's: Open MPI inside a Slurm job is Open MPI.
    """
    if number(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        if "OMPI_MCA_orte_hnp_uri" in environment:
            return "ompi"
        if importlib.util.find_spec("mpi4py"):
            return "mpi4py"  # Open MPI 5 tells only those who ask by MPI where process 0 is
        raise InputError(f"Open MPI 5 needs the package mpi4py, or {', '.join(VARIABLES)}")
    slurm = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")
    if number(environment, "SLURM_NTASKS") > 1 and all(name in environment for name in slurm):
        return "slurm"
    if _on_tpu(environment):
        return "tpu"
    indexed_job = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys()
    return "k8s" if indexed_job and importlib.util.find_spec("kubernetes") else None


def _on_tpu(environment: Mapping[str, str]) -> bool:
    if environment.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu":
        return False
    if not importlib.util.find_spec("libtpu"):
        return False
    hosts = ("TPU_PROCESS_ADDRESSES_PATH", "TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
    # Without a list of hosts, a TPU machine asks its metadata server; jax, once imported, switches
    # that off where the machine has no TPU chip.
    return any(name in environment for name in hosts) or "TPU_SKIP_MDS_QUERY" not in environment


def number(environment: Mapping[str, str], name: str) -> int:
    """Return a variable as a whole number, 0 where it is absent or something else."""
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else 0
