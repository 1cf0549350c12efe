"""Speed: three workloads, the engine and two baselines, measured in turn."""

from fedjax_compress.bench.case import CONTENDERS, DEFAULT_CLIENTS, Case
from fedjax_compress.bench.measuring import measure
from fedjax_compress.bench.overhead import OVERHEAD
from fedjax_compress.bench.planning import Request, parse_sweep, plan
from fedjax_compress.bench.process import Worker, WorkerError
from fedjax_compress.bench.workloads import Workload, workload

__all__ = [
    "CONTENDERS",
    "DEFAULT_CLIENTS",
    "OVERHEAD",
    "Case",
    "Request",
    "Worker",
    "WorkerError",
    "Workload",
    "measure",
    "parse_sweep",
    "plan",
    "workload",
]
