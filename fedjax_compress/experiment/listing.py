"""What can be named in a SPEC: everything registered, with options and defaults."""

from __future__ import annotations

import textwrap

from fedjax_compress import registry
from fedjax_compress.errors import InputError

KINDS = {
    "data": "--data: where examples come from",
    "partition": "--partition: how rows are dealt to clients",
    "sampling": "--sampling: how the cohort of a round is drawn",
    "model": "--model: what is trained",
    "augment": "--augment: how examples are changed while training",
    "qat": "--qat: quantization-aware training",
    "local": "--local: what one client computes",
    "stage": "--uplink, --downlink: stages, joined by '|', that work on each array",
    "compressor": "--uplink, --downlink: compressors that take pipes of stages",
    "schedule": "--uplink, --downlink: values over rounds, for options with numbers",
    "pattern": "in --algorithm: what is pruned together",
    "score": "in --algorithm: by what units are pruned",
    "sparsity": "in --algorithm: how much is pruned after how many rounds",
    "selector": "in --algorithm: which units a client keeps",
    "aggregate": "--aggregate: how updates become one",
    "server": "--server: what the server does with it",
    "algorithm": "--algorithm: what joins the parts",
}


def describe(kind: str | None = None) -> str:
    """Everything registered under a kind, or under all kinds, as text.

    Raises:
      InputError: unknown kind, with the nearest known one.
    """
    kinds = registry.kinds()
    if kind is not None and kind not in kinds:
        raise InputError(f"unknown kind {kind!r}; {registry.nearest(kind, kinds)}")
    blocks = [_block(k) for k in ([kind] if kind else kinds)]
    return "\n\n".join(block for block in blocks if block)


def _block(kind: str) -> str:
    entries = registry.entries(kind)
    if not entries:
        return ""
    lines = [f"{kind}  ({KINDS[kind]})" if kind in KINDS else kind]
    for entry in entries.values():
        lines += ["", *_call(entry), f"      {entry.summary}"]
    return "\n".join(lines)


def _call(entry: registry.Entry, width: int = 88) -> list[str]:
    """The call with its options, on one line or with one option a line."""
    options = [str(option) for option in entry.options()]
    if (rest := entry.rest()) is not None:
        options.append(f"...: {registry.type_name(rest)}")
    if not options:
        return [f"  {entry.name}"]
    line = f"  {entry.name}({', '.join(options)})"
    if len(line) <= width:
        return [line]
    wrapped = [
        part
        for option in options
        for part in textwrap.wrap(
            f"{option},", width, initial_indent=" " * 4, subsequent_indent=" " * 8
        )
    ]
    return [f"  {entry.name}(", *wrapped, "  )"]
