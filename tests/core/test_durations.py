"""Durations and sizes: what people write is what is meant, and everything else is refused with a sentence."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.durations import (
    MAX_DURATION,
    MAX_SIZE,
    format_duration,
    format_size,
    in_words,
    parse_duration,
    parse_size,
)

H, M, S, D = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90s", 90 * S),
        ("1h30m", 90 * M),
        ("1h 30m", 90 * M),  # blanks between parts
        (" 15s ", 15 * S),
        ("1.5h", 90 * M),
        ("2d", 2 * D),
        ("1w", 7 * D),
        ("250ms", timedelta(milliseconds=250)),
        ("1us", timedelta(microseconds=1)),
        ("1µs", timedelta(microseconds=1)),
        ("0.001ms", timedelta(microseconds=1)),
        ("1w2d3h4m5s6ms7us", 9 * D + 3 * H + 4 * M + 5 * S + timedelta(microseconds=6007)),
        ("0s", 0 * S),
        (0, 0 * S),
        (90, 90 * S),
        (0.25, timedelta(milliseconds=250)),
        ("90", 90 * S),  # a number in quotes is seconds too
        ("1.5", timedelta(seconds=1.5)),
        ("3653d", MAX_DURATION),
    ],
)
def test_a_duration_is_what_it_says(text: object, meant: timedelta) -> None:
    assert parse_duration(text) == meant


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not a duration: write it as"),
        ("soon", "is not a duration: write it as"),
        ("s", "is not a duration"),
        ("1h-30m", "is not a duration"),
        ("1,5h", "is not a duration"),
        ("٣s", "is not a duration"),  # Arabic digits
        ("-5s", "is negative"),
        (-1, "zero or more"),
        (float("nan"), "zero or more"),
        (float("inf"), "longer than ten years"),
        (float("-inf"), "zero or more"),
        pytest.param(10**5000, "longer than ten years", id="huge"),
        ("3654d", "longer than ten years"),
        ("1e9s", 'there is no unit "e"'),
        ("5H", 'did you mean "h"'),
        ("3M", '"m" is minutes; a month has no fixed length'),
        ("1y", 'write "365d"'),
        ("5min", 'there is no unit "min"; units are w, d, h, m, s, ms and us'),
        ("30m1h", "units go from long to short"),
        ("1h1h", "each once"),
        ("0.1us", "finer than a microsecond"),
        ("1" * 65 + "s", "too long"),
        (True, "is not a duration"),
        (None, "is not a duration"),
        ([5], "is not a duration"),
    ],
)
def test_what_is_not_a_duration_is_refused_with_what_would_be_right(text: object, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_duration(text)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0 * S, "0s"),
        (15 * S, "15s"),
        (90 * M, "1h30m"),
        (1.5 * S, "1.5s"),
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(microseconds=1500), "1.5ms"),
        (timedelta(microseconds=7), "7us"),
        (61 * S + timedelta(microseconds=50), "1m1.00005s"),
        (14 * D, "2w"),  # whole weeks only
        (90 * D, "90d"),
        (D + H, "1d1h"),
        (-90 * S, "-1m30s"),
    ],
)
def test_a_duration_is_told_briefly(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.timedeltas(min_value=timedelta(0), max_value=MAX_DURATION))
def test_a_duration_told_is_the_duration_read(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@given(st.text(max_size=12) | st.floats() | st.integers())
def test_a_duration_is_read_or_refused_and_never_out_of_bounds(text: object) -> None:
    try:
        duration = parse_duration(text)
    except ValueError as refused:
        assert str(refused)
    else:
        assert timedelta(0) <= duration <= MAX_DURATION


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 * 2**30),
        ("64KiB", 65536),
        ("10MB", 10_000_000),
        ("1.5 kB", 1500),
        ("1TiB", 2**40),
        ("2tb", 2 * 10**12),  # case does not matter
        ("512", 512),
        ("7B", 7),
        (0, 0),
        (4096, 4096),
    ],
)
def test_a_size_is_what_it_says(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2G", 'say which: "2GiB" or "2GB"'),
        ("2gibs", "there is no unit"),
        ("big", "is not a size: write it as"),
        ("", "is not a size"),
        ("-1MB", "is not a size"),
        (-1, "between 0 and 8 EiB"),
        (2**63, "between 0 and 8 EiB"),
        pytest.param(10**5000, "between 0 and 8 EiB", id="huge"),
        ("9999999TiB", "between 0 and 8 EiB"),
        ("0.5B", "not a whole number of bytes"),
        (1.5, "is not a size"),
        (True, "is not a size"),
        (None, "is not a size"),
    ],
)
def test_what_is_not_a_size_is_refused_with_what_would_be_right(text: object, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_size(text)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (2 * 2**30, "2GiB"),
        (65536, "64KiB"),
        (10_000_000, "10MB"),
        (1500, "1.5KiB"),  # rounded: 1.46
        (123_456_789, "117.7MiB"),
        (-2048, "-2KiB"),
    ],
)
def test_a_size_is_told_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, MAX_SIZE))
def test_a_size_told_is_near_the_size(size: int) -> None:
    told = format_size(size)
    try:
        read = parse_size(told)
    except ValueError:
        read = round(float(told.rstrip("KMGTiB")) * {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}[told[-3]])
    assert abs(read - size) <= size * 0.06


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (-0.001, "0 ms"),  # a clock set back
        (0, "0 ms"),
        (0.0994, "99 ms"),
        (0.0996, "0.1 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (7_500, "2 h 5 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_a_duration_is_told_as_one_reads_it(duration_s: float, text: str) -> None:
    assert in_words(duration_s) == text
