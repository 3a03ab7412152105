from __future__ import annotations

import pytest

from app.labeling.client import parse_retry_after

NOON = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
IN_TEN_SECONDS = "Tue, 14 Nov 2023 22:13:30 GMT"


class TestParseRetryAfter:
    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry-after": "7"}, 7.0),
            ({"retry-after": "0"}, 0.0),
            # not of the RFC, seen all the same
            ({"retry-after": "0.5"}, 0.5),
            ({"retry-after": IN_TEN_SECONDS}, 10.0),
            ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, 0.0),
            # OpenAI's own, which is the finer one
            ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
            ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
            # nonsense is no word at all
            ({"retry-after": ""}, None),
            ({"retry-after": "soon"}, None),
            ({"retry-after": "-5"}, None),
            ({"retry-after": "nan"}, None),
            ({"retry-after": "inf"}, None),
            ({"retry-after": "1e12"}, None),
            ({"retry-after": "Tue, 99 Nov 2023 22:13:30 GMT"}, None),
        ],
    )
    def test_reads(self, headers: dict[str, str], seconds: float | None) -> None:
        assert parse_retry_after(headers, now=NOON) == seconds

    @pytest.mark.parametrize("wrong", [-3600.0, 3600.0])
    def test_a_date_is_read_by_the_server_s_clock_where_it_tells_it(self, wrong: float) -> None:
        headers = {"retry-after": IN_TEN_SECONDS, "date": "Tue, 14 Nov 2023 22:13:20 GMT"}
        assert parse_retry_after(headers, now=NOON + wrong) == 10.0
