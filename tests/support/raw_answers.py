"""Answers as bytes, good and bad, for the tests of the upstream client and for fuzzing around them."""

from proxy.upstream.answer import HEAD_BYTES_MAX, HEADERS_MAX, INTERIM_MAX

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

WHOLE = {
    # what arrives: the answer -> status, body, whether the connection is used again
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc", True),
    "an empty body": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
    "chunks": (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, b"abcde", True),
    "no chunk but the last": (CHUNKED + b"0\r\n\r\n", 200, b"", True),
    "chunk extensions": (CHUNKED + b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n', 200, b"abc", True),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Empty:\r\n\r\n", 200, b"abc", True),
    "chunk sizes in capitals": (CHUNKED.replace(b"chunked", b"Chunked") + b"A\r\n0123456789\r\n0\r\n\r\n", 200, b"0123456789", True),
    "until the end of the connection": (b"HTTP/1.1 200 OK\r\n\r\nabc", 200, b"abc", False),
    "nothing until the end": (b"HTTP/1.1 500 No\r\n\r\n", 500, b"", False),
    "204 without a length": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304 with the length of what it stands for": (b"HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", 304, b"", True),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", 200, b"a", True),
    "a status nobody assigned": (b"HTTP/1.1 799 Odd\r\nContent-Length: 1\r\n\r\na", 799, b"a", True),
    "close": (b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", 200, b"a", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, b"a", False),
    "HTTP/1.0 that would be kept": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", 200, b"a", False),
    "chunks in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"1\r\na\r\n0\r\n\r\n", 200, b"a", False),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", 200, b"a", True),
    "102 and 103 first": (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\na", 201, b"a", True,
    ),
    "an offer to upgrade": (
        b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na", 200, b"a", True,
    ),
    "a byte too many": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", 200, b"a", False),
    "an empty line too many after a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na\r\n", 200, b"a", False),
    "an empty line too many after chunks": (CHUNKED + b"1\r\na\r\n0\r\n\r\n\r\n", 200, b"a", False),
    "two empty lines too many after chunks": (CHUNKED + b"1\r\na\r\n0\r\n\r\n\r\n\r\n", 200, b"a", False),
    "a line feed too many after chunks": (CHUNKED + b"1\r\na\r\n0\r\n\r\n\n", 200, b"a", False),
    "a body where none belongs": (b"HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\na", 204, b"", False),
    "rubbish after chunks": (CHUNKED + b"1\r\na\r\n0\r\n\r\nxyz", 200, b"a", False),
    "rubbish after the last chunks": (CHUNKED[:-2] + b"Connection: close\r\n\r\n1\r\na\r\n0\r\n\r\nmore rubbish", 200, b"a", False),
    "half an answer after chunks": (CHUNKED + b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200", 200, b"a", False),
    "another answer after a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" * 2, 200, b"a", False),
    "another answer after chunks": (
        CHUNKED + b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", 200, b"a", False,
    ),
    "another chunked answer after chunks": ((CHUNKED + b"1\r\na\r\n0\r\n\r\n") * 2, 200, b"a", False),
}  # fmt: skip

MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an empty line first": b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\n\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\n\r\n",
    "ICE": b"ICE/1.0 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 99 OK\r\n\r\n",
    "status 000": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "a blank before the colon": b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    "no name": b"HTTP/1.1 200 OK\r\n: b\r\n\r\n",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
    "a lone carriage return": b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks and length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "two lengths that agree": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n",
    "a length past 64 bits": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "a coding under the chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "a coding over the chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "101 without Upgrade": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "100 then rubbish": b"HTTP/1.1 100 Continue\r\n\r\nrubbish",
    "too large a head": b"HTTP/1.1 200 OK\r\nA: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n",
    "too large a head that doesn't end": b"HTTP/1.1 200 OK\r\nA: " + b"a" * HEAD_BYTES_MAX,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (HEADERS_MAX + 1) + b"\r\n",
    "too many interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * (INTERIM_MAX + 1),
}

BROKEN_OFF = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
    "a length with nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
    "inside a chunk": CHUNKED + b"5\r\nabc",
    "between chunks": CHUNKED + b"3\r\nabc\r\n",
    "inside a chunk's size": CHUNKED + b"3\r\nabc\r\n1",
    "before the last empty line": CHUNKED + b"3\r\nabc\r\n0\r\n",
    "inside the last empty line": CHUNKED + b"3\r\nabc\r\n0\r\n\r",
    "inside a trailer": CHUNKED + b"3\r\nabc\r\n0\r\nX-Sum",
}

BROKEN_CHUNKS = {
    "a size that is no number": b"xyz\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a blank after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "a size past 64 bits": b"fffffffffffffffff\r\nabc",
    "a chunk longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "bare line feeds": b"3\nabc\n0\n\n",
    "an extension without end": b"3;" + b"a" * (HEAD_BYTES_MAX + 600_000),
    "trailers without end": b"3\r\nabc\r\n0\r\n" + b"A: b\r\n" * 100_000,
}
