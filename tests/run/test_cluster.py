import importlib.util

import pytest

from fdl.errors import InputError
from fdl.run.cluster import Plan, plan

EXPLICIT = {"FDL_COORDINATOR": "10.0.0.1:1234", "FDL_PROCESSES": "4", "FDL_PROCESS": "3"}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}
INDEXED_JOB = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The optional packages that exist; none unless a test adds one."""
    names = set()
    find = importlib.util.find_spec
    optional = {"mpi4py", "kubernetes", "libtpu"}
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: (name in names or None) if name in optional else find(name),
    )
    return names


def test_a_process_without_any_sign_of_others_is_alone():
    assert plan({"HOME": "/", "JAX_PLATFORMS": "cpu"}) == Plan("single", None, None, None)


def test_three_variables_say_everything():
    assert plan(EXPLICIT) == Plan("explicit", "10.0.0.1:1234", 3, 4)


def test_an_ipv6_coordinator_keeps_its_brackets():
    assert plan(EXPLICIT | {"FDL_COORDINATOR": "[fe80::1]:99"}).coordinator == "[fe80::1]:99"


def test_variables_of_fdl_win_over_the_cluster():
    assert plan(SLURM | EXPLICIT).how == "explicit"
    assert plan(SLURM | {"FDL_PROCESSES": "1"}).how == "single"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"FDL_PROCESS": ""}, "FDL_PROCESS must be set, as FDL_COORDINATOR is"),
        (
            {"FDL_COORDINATOR": "", "FDL_PROCESS": ""},
            "FDL_COORDINATOR and FDL_PROCESS must be set, as FDL_PROCESSES is",
        ),
        ({"FDL_PROCESS": "4"}, "FDL_PROCESS must be < FDL_PROCESSES=4, got 4"),
        ({"FDL_PROCESS": "-1"}, "FDL_PROCESS must be a whole number >= 0, got '-1'"),
        ({"FDL_PROCESSES": "0"}, "FDL_PROCESSES must be a whole number >= 1, got '0'"),
        ({"FDL_PROCESSES": "two"}, "FDL_PROCESSES must be a whole number >= 1, got 'two'"),
        ({"FDL_COORDINATOR": "host"}, "FDL_COORDINATOR must be host:port, got 'host'"),
        ({"FDL_COORDINATOR": ":80"}, "FDL_COORDINATOR must be host:port, got ':80'"),
        ({"FDL_COORDINATOR": "host:0"}, "FDL_COORDINATOR must be host:port, got 'host:0'"),
        ({"FDL_COORDINATOR": "host:65536"}, "FDL_COORDINATOR must be host:port, got 'host:65536'"),
    ],
)
def test_contradicting_variables_are_refused(changes, message):
    with pytest.raises(InputError) as caught:
        plan(EXPLICIT | changes)
    assert str(caught.value) == message


def test_slurm_is_a_cluster_only_inside_a_step_of_several_tasks():
    assert plan(SLURM).how == "slurm"
    assert plan(SLURM | {"SLURM_NTASKS": "1"}).how == "single"
    batch_script = {k: v for k, v in SLURM.items() if k != "SLURM_STEP_NODELIST"}
    assert plan(batch_script).how == "single"


def test_open_mpi_4_is_read_by_jax_and_5_by_mpi4py(installed):
    assert plan(OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1;tcp://10.0.0.1:1"}).how == "ompi"
    with pytest.raises(InputError, match="Open MPI 5 needs the package mpi4py"):
        plan(OPEN_MPI)
    installed.add("mpi4py")
    assert plan(OPEN_MPI).how == "mpi4py"
    assert plan(SLURM | OPEN_MPI).how == "mpi4py"
    assert plan(OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}).how == "single"


def test_an_indexed_kubernetes_job_needs_the_package_that_can_ask_the_cluster(installed):
    assert plan(INDEXED_JOB).how == "single"
    installed.add("kubernetes")
    assert plan(INDEXED_JOB).how == "k8s"
    assert plan({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}).how == "single"


def test_a_tpu_machine_is_taken_unless_another_platform_is_asked_for(installed):
    hosts = {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_SKIP_MDS_QUERY": "1"}
    assert plan(hosts).how == "single"  # without libtpu there is no TPU
    installed.add("libtpu")
    assert plan(hosts).how == "tpu"
    assert plan({}).how == "tpu"  # the metadata server knows
    assert plan({"TPU_SKIP_MDS_QUERY": "1"}).how == "single"
    assert plan(hosts | {"JAX_PLATFORMS": "cpu"}).how == "single"
