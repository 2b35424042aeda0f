"""Reading HTTP messages (wire: "The HTTP tunnel"), against the plain-Python model: no cut changes a result."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http_streams import (
    SMALL,
    almost_requests,
    almost_responses,
    cuts,
    requests,
    responses,
    seen,
)
from tests.models.tunnel import read

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

    def test_trailers_are_over_with_their_message(self) -> None:
        one = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: y\r\n\r\n"
        for chunks in cuts(one * 3):
            assert seen(requests(), chunks, True) == read(one * 3, ended=True)
