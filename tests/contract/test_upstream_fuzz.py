"""Whatever bytes a server sends, however they are cut: an answer or a failure that says *sent*, and never a hang."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.ports import Phase, SendFailed
from proxy.upstream.answer import AnswerReader, BrokenAnswer
from tests.support.raw_answers import BROKEN_CHUNKS, BROKEN_OFF, CHUNKED, MALFORMED, WHOLE
from tests.support.raw_server import Peer, RawServer
from tests.support.upstream_kit import LOOPS, read, run_on, sending_to

METHODS = st.sampled_from(["GET", "HEAD", "POST"])
SEEDS = [
    answer
    for answer in [
        *(whole for whole, *_ in WHOLE.values()),
        *MALFORMED.values(),
        *BROKEN_OFF.values(),
        *(CHUNKED + chunks for chunks in BROKEN_CHUNKS.values()),
    ]
    if len(answer) < 5000
]
TELLING = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"0",
    b":",
    b" ",
    b"\0",
    b"\xff",
    b"chunked",
    b"Content-Length: 1\r\n",
    b"1xx",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An answer from the tables with up to four cuts, swaps, doublings or insertions."""
    answer = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(answer)))
        to = draw(st.integers(at, min(len(answer), at + 20)))
        match draw(st.sampled_from(["cut", "swap", "double", "insert"])):
            case "cut":
                del answer[at:to]
            case "swap" if at < len(answer):
                answer[at] = draw(st.integers(0, 255))
            case "double":
                answer[at:at] = answer[at:to]
            case _:
                answer[at:at] = draw(st.sampled_from(TELLING) | st.binary(max_size=8))
    return bytes(answer)


@st.composite
def pieces(draw: st.DrawFn, answers: st.SearchStrategy[bytes]) -> list[bytes]:
    """An answer and where it is cut."""
    answer = draw(answers)
    cuts = sorted(draw(st.lists(st.integers(0, len(answer)), max_size=8)))
    return [answer[start:end] for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True)]


def heard(method: str, parts: list[bytes]):
    """All that a reader makes of *parts*; of a broken body only that it is broken."""
    reader = AnswerReader(method)
    try:
        for part in parts:
            reader.feed(part)
    except BrokenAnswer:
        return reader.head, "broken"
    ended_by_close = not reader.complete and reader.feed_end()
    body = b"".join(iter(reader.take, b""))
    return reader.head, reader.complete, reader.surplus, reader.is_reusable, ended_by_close, body


@given(parts=pieces(mutated()), method=METHODS)
@settings(max_examples=1500, deadline=None)
def test_what_is_heard_does_not_depend_on_where_the_bytes_are_cut(parts, method):
    whole = b"".join(parts)

    assert heard(method, parts) == heard(method, [whole]) == heard(method, [bytes([byte]) for byte in whole])


@given(parts=pieces(st.sampled_from([whole for whole, *_ in WHOLE.values()])))
@settings(max_examples=300, deadline=None)
def test_a_whole_answer_is_whole_however_it_is_cut(parts):
    expected = {answer: (status, body, reused) for answer, status, body, reused in WHOLE.values()}
    status, body, reused = expected[b"".join(parts)]
    head, complete, _, is_reusable, _, heard_body = heard("POST", parts)

    assert (head.status, complete, heard_body, is_reusable) == (status, True, body, reused)


@given(junk=st.binary(max_size=200), method=METHODS)
@settings(max_examples=500, deadline=None)
def test_junk_is_never_an_answer(junk, method):
    if not junk.startswith(b"HTTP/1."):
        assert heard(method, [junk])[0] is None


@pytest.mark.parametrize("loop_name", LOOPS)
def test_a_send_ends_in_a_reply_or_in_a_failure_that_says_sent(loop_name):
    now: list[bytes] = []
    endings = {"close": Peer.close, "reset": Peer.reset, "end": Peer.end, "wait": Peer.read_rest}
    ending = "close"

    def play(peer: Peer) -> None:
        peer.read_request()
        for part in now:
            peer.send(part)
        endings[ending](peer)

    async def send(method: str) -> None:
        async with asyncio.timeout(5), sending_to(server.port) as sender:
            head_came = False
            try:
                reply = await sender.send(method, body=b"", seconds=0.05 if ending == "wait" else 4)
                head_came = True
                assert 200 <= reply.status <= 999
                await read(reply)
                await reply.close()
            except SendFailed as error:
                failed = error
            else:
                return
        assert failed.phase is (Phase.BODY if head_came else Phase.WAIT)

    @given(parts=pieces(mutated()), method=METHODS, how=st.sampled_from([*["close", "reset", "end"] * 5, "wait"]))
    @settings(max_examples=150, deadline=None)
    def check(parts, method, how):
        nonlocal ending
        now[:] = [part for part in parts if part]
        ending = how
        before = server.begun
        run_on(loop_name, send(method))
        assert server.begun == before + 1

    with RawServer(play) as server:
        check()
