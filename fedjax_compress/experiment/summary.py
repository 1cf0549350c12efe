"""The outcome of a run in figures, all of them from its records."""

from __future__ import annotations

from typing import Any

import jax

from fedjax_compress import tree
from fedjax_compress.experiment.build import Parts
from fedjax_compress.experiment.config import SPECS, Config
from fedjax_compress.experiment.fingerprint import versions
from fedjax_compress.models import cost
from fedjax_compress.report.records import Record, clean
from fedjax_compress.report.scores import of_model
from fedjax_compress.typing import Params

_SCORED = "test_", "client_", "personal_"
_COSTS = ("client_parameters", "client_macs", "client_flops")
_SUMS = ("bytes_up", "bytes_down", "nominal_bytes_up", "nominal_bytes_down", "dropped")
_TIMED = ("virtual_seconds", "energy_joules", "late", "lost", "stale", "sent", "failed")
_PARTS = ("download", "compute", "upload")


def summarize(
    config: Config, history: list[Record], parts: Parts, params: Params, kept: Any = ()
) -> dict[str, Any]:
    """What ``summary.json`` holds.

    ``metric`` says by what the run is judged: its name, which is better, and its unit.

    ``saved_up`` and ``saved_down`` say how many times fewer bytes travelled than
    with the same messages uncompressed: 32 bits a parameter for each client of each
    cohort, no header, over the true bytes. Up, for each client that has sent. Where
    something else than parameters travels, that is what averaging them would send.

    ``seconds`` and ``clients_per_second`` are those of the rounds alone, without
    compiling (``compile_seconds``, of the last start), evaluating and saving.

    Args:
      config: the run's configuration.
      history: records of all rounds; the last one was evaluated, or diverged.
      parts: the parts of the run.
      params: the final parameters; of a run that diverged those before, and it has no
        scores: its ``diverged`` is the round.
      kept: states of all clients, where their networks are judged: in the digest too.
    """
    parameters = tree.count(params)
    sums = {name: sum(record[name] for record in history) for name in _SUMS}
    messages = sum(record["clients"] for record in history)
    seconds = sum(record["seconds"] for record in history)
    whole = 4 * (parts.algorithm.averaged or parameters)
    uncompressed = round(whole * messages)
    up = whole * sum(map(_sent, history))
    down = whole * sum(map(_received, history))
    last = history[-1]
    scores = {k: v for k, v in last.items() if k.startswith(_SCORED)}
    if last.get("diverged"):
        names = [f"test_{name}" for name in ("loss", *parts.model.metrics)]
        scores = dict.fromkeys(names) | {"diverged": last["round"]}
    return clean(
        {
            **scores,
            "metric": of_model(parts.model)._asdict(),
            "train_loss": last["train_loss"],
            "rounds": len(history),
            "clients": parts.data.clients,
            "cohort": config.cohort,
            **sums,
            "fp32_bytes": uncompressed,
            "saved_up": up / sums["bytes_up"] if up else None,
            "saved_down": down / max(sums["bytes_down"], 1),
            **_by_the_clock(history),
            "seconds": seconds,
            "compile_seconds": parts.simulator.compile_seconds,
            "clients_per_second": messages / seconds if seconds > 0 else 0.0,
            "parameters": parameters,
            **_costs(parts),
            "parameters_sha256": tree.sha256((params, kept) if kept else params),
            **{name: getattr(config, name) for name in (*SPECS, "seed")},
            "devices": config.devices,
            "lanes": config.lanes,
            "platform": jax.devices()[0].platform,
            "device_kind": jax.devices()[0].device_kind,
            "versions": versions(),
        }
    )


def _sent(record: Record) -> int:
    """How many clients of a round have sent something."""
    found: int = record.get("sent", record["clients"] + record.get("stale", 0))
    return found


def _received(record: Record) -> int:
    """How many clients were sent the model; where nobody waits, besides those of whom a
    step has had reports."""
    more = ("stale", "lost") if "staleness" in record else ()
    return int(record["clients"] + sum(record.get(name, 0) for name in more))


def _by_the_clock(history: list[Record]) -> dict[str, Any]:
    """Totals of what the virtual clock says, and what the time was for.

    What is left of a round's time is waiting, but where nobody waits for others. There
    shares are those of the clients' time.
    """
    if "virtual_seconds" not in history[0]:
        return {}
    names = [n for n in _TIMED if any(n in record for record in history)]
    found = {n: sum(record.get(n, 0) for record in history) for n in names}
    shares = {n: sum(r[f"{n}_seconds"] for r in history) for n in _PARTS}
    waits = [r for r in history if "staleness" not in r]
    shares["waiting"] = sum(
        max(r["virtual_seconds"] - sum(r[f"{n}_seconds"] for n in _PARTS), 0.0)
        for r in waits
    )
    whole = sum(shares.values())
    return found | {
        f"{n}_share": x / whole if whole else None for n, x in shares.items()
    }


def _costs(parts: Parts) -> dict[str, Any]:
    """What clients train, for each tier: parameters, and operations for one row."""
    try:
        found = [cost(model, parts.dataset.task) for model in parts.algorithm.trains]
    except Exception:  # a finished run is not lost for a figure beside it
        return dict.fromkeys(_COSTS)
    return {
        "client_parameters": [each.parameters for each in found],
        "client_macs": [each.macs for each in found],
        "client_flops": [each.flops for each in found],
    }
