"""A little RTSP server: JPEG by RTP (RFC 2435), interleaved in the connection (RFC 2326, 10.12).

It serves one client after the other, as an IP camera does, and ends each stream after its last
picture.
"""

import io
import re
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image

__all__ = ["rtsp_server"]

_TICKS = 9000  # of RTP's clock of 90 kHz: ten pictures a second
_PIECE = 1200  # bytes of a picture in a packet
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=pictures\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 26\r\na=control:track\r\n"
)


@contextmanager
def rtsp_server(pictures: Sequence[np.ndarray]) -> Iterator[str]:
    """Serve pictures, uint8 `[H, W, 3]` of multiples of 16 pixels; yield the address."""
    packets = list(_packets(pictures))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, packets), daemon=True)
        thread.start()
        try:
            yield f"rtsp://127.0.0.1:{listener.getsockname()[1]}/camera"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _serve(listener: socket.socket, packets: list[bytes]) -> None:
    with suppress(OSError):  # it was shut down
        while True:
            client, _ = listener.accept()
            client.settimeout(5)
            with suppress(OSError), client:
                _talk(client, packets)


def _talk(client: socket.socket, packets: list[bytes]) -> None:
    with client.makefile("rb") as lines:
        while request := lines.readline().decode().strip():
            given = (line.decode().partition(":") for line in iter(lines.readline, b"\r\n"))
            headers = {name.lower(): value.strip() for name, _, value in given}
            verb = request.split()[0]
            client.sendall(_answer(verb, headers))
            if verb == "PLAY":
                for packet in packets:
                    client.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                return


def _answer(verb: str, headers: dict[str, str]) -> bytes:
    body = _SDP if verb == "DESCRIBE" else ""
    lines = {
        "OPTIONS": ["Public: OPTIONS, DESCRIBE, SETUP, PLAY"],
        "DESCRIBE": ["Content-Type: application/sdp", f"Content-Length: {len(body)}"],
        "SETUP": ["Session: 1", f"Transport: {headers.get('transport', '')}"],
    }.get(verb, ["Session: 1"])
    head = ["RTSP/1.0 200 OK", f"CSeq: {headers['cseq']}", *lines]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def _packets(pictures: Sequence[np.ndarray]) -> Iterator[bytes]:
    """Yield RTP packets: their header, RFC 2435's, in the first the tables, and a piece."""
    sequence = 0
    for number, picture in enumerate(pictures):
        tables, scan = _jpeg(picture)
        size = picture.shape[1] // 8, picture.shape[0] // 8
        for at in range(0, len(scan), _PIECE):
            last = 0x80 if at + _PIECE >= len(scan) else 0
            yield (
                struct.pack(">BBHII", 0x80, 26 | last, sequence, number * _TICKS, 7)
                + struct.pack(">IBBBB", at, 1, 255, *size)
                + (b"" if at else struct.pack(">BBH", 0, 0, len(tables)) + tables)
                + scan[at : at + _PIECE]
            )
            sequence += 1


def _jpeg(picture: np.ndarray) -> tuple[bytes, bytes]:
    """Return the two quantisation tables, and the coded pixels, of a picture at 4:2:0."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95, subsampling="4:2:0")
    raw = file.getvalue()
    tables = b"".join(re.findall(rb"\xff\xdb\x00\x43.(.{64})", raw, re.DOTALL))
    assert len(tables) == 128
    scan = raw.index(b"\xff\xda") + 2
    return tables, raw[scan + int.from_bytes(raw[scan : scan + 2], "big") : -2]
