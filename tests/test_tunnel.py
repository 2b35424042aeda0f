"""Reading HTTP messages (wire: "The HTTP tunnel"), against the plain-Python model and by example: no cut changes a result."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imcore._tunnel import RequestReader, ResponseReader, scan
from imcore.errors import TunnelError
from tests.http_streams import (
    SMALL,
    almost_requests,
    almost_responses,
    cuts,
    pieces,
    requests,
    responses,
    seen,
)
from tests.models.tunnel import Limits, read

methods = st.sampled_from([b"POST", b"GET", b"HEAD", b"CONNECT"])


class TestAgainstTheModel:
    @given(st.binary(max_size=60), st.booleans(), st.booleans())
    def test_any_bytes_are_read_as_by_the_model(self, stream: bytes, ended: bool, response: bool) -> None:
        reader = responses(SMALL) if response else requests(SMALL)
        assert seen(reader, [stream], ended) == read(stream, SMALL, b"POST" if response else None, ended)

    @given(almost_requests, st.booleans())
    @settings(max_examples=1000)
    def test_almost_requests_are_read_as_by_the_model(self, stream: bytes, ended: bool) -> None:
        assert seen(requests(SMALL), [stream], ended) == read(stream, SMALL, None, ended)

    @given(almost_responses, methods, st.booleans())
    @settings(max_examples=1000)
    def test_almost_responses_are_read_as_by_the_model(self, stream: bytes, asked: bytes, ended: bool) -> None:
        assert seen(responses(SMALL, asked), [stream], ended) == read(stream, SMALL, asked, ended)

    @given(almost_requests)
    def test_no_cut_of_a_request_changes_the_result(self, stream: bytes) -> None:
        whole = read(stream, SMALL, None, True)
        for chunks in cuts(stream):
            assert seen(requests(SMALL), chunks, True) == whole, chunks

    @given(almost_responses, methods)
    def test_no_cut_of_a_response_changes_the_result(self, stream: bytes, asked: bytes) -> None:
        whole = read(stream, SMALL, asked, True)
        for chunks in cuts(stream):
            assert seen(responses(SMALL, asked), chunks, True) == whole, chunks
