"""Numbers as people read them."""

from __future__ import annotations


def megabytes(count: float) -> str:
    """Bytes as MB (10^6 bytes) with about three digits; kB below 0.1 MB."""
    if count < 100_000:
        return f"{count / 1e3:,.1f} kB"
    if count < 10_000_000:
        return f"{count / 1e6:,.2f} MB"
    return f"{count / 1e6:,.1f} MB"


def millions(count: float) -> str:
    """Bytes in 10^6 bytes for a column of numbers: two decimals, or two digits."""
    value = count / 1e6
    return f"{value:,.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def saving(value: float) -> str:
    """A factor of bytes saved in words: 8.0x fewer, as many, 1.2x more."""
    if 0.95 < value < 1.05:
        return "as many"
    return f"{factor(value)} fewer" if value > 1 else f"{factor(1 / value)} more"


def percent(share: float | None) -> str:
    """A share as a percentage with one decimal; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def factor(value: float | None) -> str:
    """A factor with one decimal, none from 100 on."""
    if value is None:
        return "-"
    return f"{value:,.0f}x" if value >= 100 else f"{value:.1f}x"


def number(value: float | None, digits: int = 4) -> str:
    """A loss or the like with a few digits, zeros at the end kept."""
    return "not finite" if value is None else f"{value:#.{digits}g}"


def short(value: float | None, digits: int = 3) -> str:
    """About three digits, whole from a hundred on."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3 min 20 s, 2 h 5 min, or from two days on 3 days 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    hours = whole // 3600
    if hours < 48:
        return f"{hours} h {whole % 3600 // 60} min"
    return f"{hours // 24} days {hours % 24} h"


def virtual(seconds: float | None) -> str:
    """A duration that may be short, as 41.2 ms or 3.4 s; a dash where there is none."""
    if seconds is None:
        return "-"
    if 0 < seconds < 1:
        return f"{short(1e3 * seconds)} ms"
    return f"{short(seconds, 2)} s" if 0 < seconds < 10 else duration(seconds)


def joules(energy: float) -> str:
    """Energy as 320 J, 12.3 kJ, or 4.56 MJ."""
    size, unit = (1e6, "MJ") if energy >= 999_500 else (1e3, "kJ")
    if energy < 999.5:
        size, unit = 1, "J"
    return f"{short(energy / size)} {unit}"
