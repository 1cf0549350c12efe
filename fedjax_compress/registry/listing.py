"""What can be named in a SPEC: everything registered, with options and defaults."""

from __future__ import annotations

import inspect
import textwrap

from fedjax_compress import registry
from fedjax_compress.errors import InputError

KINDS = {
    "data": "--data: where examples come from",
    "public": "--public: rows that no client has",
    "partition": "--partition: how rows are dealt to clients",
    "sampling": "--sampling: how the cohort of a round is drawn",
    "model": "--model: what is trained",
    "augment": "--augment: how examples are changed while training",
    "qat": "--qat: quantization-aware training",
    "local": "--local: what one client computes",
    "stage": "--uplink, --downlink: stages, joined by '|', that work on each array",
    "compressor": "--uplink, --downlink: compressors that take pipes of stages",
    "schedule": "--uplink, --downlink, --local, --server: numbers over rounds",
    "pattern": "in --algorithm: what is pruned together",
    "score": "in --algorithm: by what units are pruned",
    "sparsity": "in --algorithm: how much is pruned after how many rounds",
    "selector": "in --algorithm: which units a client keeps",
    "aggregate": "--aggregate: how updates become one",
    "server": "--server: what the server does with it",
    "algorithm": "--algorithm: what joins the parts",
    "clock": "--clock, a pipe: what takes how long, and whom a round waits for",
}


def describe(name: str | None = None) -> str:
    """What is registered, as text: all of it, all of a kind, or one in full.

    Args:
      name: None; a kind, for the first line of all that it has; or the name of anything
        registered, for its whole page. One that several kinds have gives all pages.

    Raises:
      InputError: neither a kind nor a name, with the nearest of both.
    """
    kinds = registry.kinds()
    if name is not None and name not in kinds:
        return _pages(name, kinds)
    blocks = [_block(k) for k in ([name] if name else kinds)]
    return "\n\n".join(block for block in blocks if block)


def _pages(name: str, kinds: list[str]) -> str:
    tables = [registry.entries(kind) for kind in kinds]
    if found := [table[name] for table in tables if name in table]:
        return "\n\n\n".join(_page(entry) for entry in found)
    hint = registry.nearest(name, [*kinds, *(n for table in tables for n in table)])
    if hint.startswith("known"):
        hint = registry.nearest(name, kinds)
    raise InputError(f"unknown kind or name {name!r}; {hint}")


def _page(entry: registry.Entry) -> str:
    """The call, the docstring, and where names in its options are looked up."""
    text = (inspect.getdoc(entry.factory) or "").replace("``", "")
    lines = [_heading(entry.kind), "", *_call(entry)]
    if text:
        lines += ["", textwrap.indent(text, "  ")]
    for option in entry.options():
        if inner := registry.inner_kinds(option.type):
            lines += ["", f"  {option.name} may name:"]
            names = [n for kind in inner for n in registry.entries(kind)]
            lines.append(
                textwrap.fill(
                    ", ".join(names), 88, initial_indent=" " * 6,
                    subsequent_indent=" " * 6, break_on_hyphens=False,
                )
            )  # fmt: skip
    return "\n".join(lines)


def _heading(kind: str) -> str:
    return f"{kind}  ({KINDS[kind]})" if kind in KINDS else kind


def _block(kind: str) -> str:
    entries = registry.entries(kind)
    if not entries:
        return ""
    lines = [_heading(kind)]
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
