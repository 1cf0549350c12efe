"""Numbers as people read them."""

from __future__ import annotations

import pytest

from fedjax_compress.report import words


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (words.short(1234.5), "1,234"),
        (words.short(45.67), "45.7"),
        (words.short(0.03854), "0.0385"),
        (words.short(None), "-"),
        (words.megabytes(0), "0.0 kB"),
        (words.megabytes(99_999), "100.0 kB"),
        (words.megabytes(1_234_567), "1.23 MB"),
        (words.megabytes(12_345_678), "12.3 MB"),
        (words.megabytes(1_234_567_890), "1,234.6 MB"),
        (words.percent(0.94567), "94.6 %"),
        (words.percent(None), "-"),
        (words.factor(7.84), "7.8x"),
        (words.factor(1234.5), "1,234x"),
        (words.factor(None), "-"),
        (words.millions(12_345_678), "12.35"),
        (words.millions(4_600), "0.0046"),
        (words.millions(0), "0.00"),
        (words.saving(8.0), "8.0x fewer"),
        (words.saving(1.01), "as many"),
        (words.saving(0.8), "1.2x more"),
        (words.number(0.1), "0.1000"),
        (words.number(1.23456, 3), "1.23"),
        (words.number(None), "not finite"),
        (words.duration(59.4), "59 s"),
        (words.duration(200), "3 min 20 s"),
        (words.duration(7500), "2 h 5 min"),
        (words.duration(3 * 86_400 + 4 * 3600), "3 days 4 h"),
        (words.virtual(None), "-"),
        (words.virtual(0.0), "0 s"),
        (words.virtual(0.04123), "41.2 ms"),
        (words.virtual(3.44), "3.4 s"),
        (words.virtual(200), "3 min 20 s"),
        (words.joules(320.4), "320 J"),
        (words.joules(12_345), "12.3 kJ"),
        (words.joules(999_700), "1 MJ"),
        (words.joules(4_560_000), "4.56 MJ"),
    ],
)
def test_words(found: str, text: str) -> None:
    assert found == text
