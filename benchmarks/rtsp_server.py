"""A camera for tests: RTSP on loopback, with its H.264 inside the same TCP connection.

It can be killed, stall (also in the middle of a frame), send garbage, change its size, dribble and
ask for a password.

Frame k shows its number k, goes out k / fps after the first PLAY, and carries that time as its RTP
timestamp. Who comes later joins at the frame of that moment, each with an encoder of its own.
RTSP is RFC 2326, RTP RFC 3550, H.264 in it RFC 6184.
"""

import base64
import re
import select
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any, Self

import av
import numpy as np

Size = tuple[int, int]
Draw = Callable[[int, Size], np.ndarray]
"""From a number and a size to a picture, RGB."""
_BITS = 16
_MTU = 1400
"""The most of a NAL unit in one packet, bytes."""
_CLOCK = 90_000
"""Ticks of an RTP timestamp in a second."""
_FIRST_TICK = 2**32 - _CLOCK // 2
"""Timestamps pass their largest value half a second in, as those of a camera do some day."""
_SPS, _PPS, _FU_A = 7, 8, 28


def picture(number: int, size: Size) -> np.ndarray:
    """A grey picture (height, width, 3): bars are the bits of the number, below them is noise."""
    width, height = size
    bits = number >> np.arange(_BITS) & 1
    bars = np.where(bits[np.arange(width) * _BITS // width], 200, 50)
    noise = np.random.default_rng(number).integers(50, 200, (height // 8 + 1, width // 8 + 1))
    image = noise.repeat(8, 0).repeat(8, 1)[:height, :width]
    image[: height // 2] = bars
    return image.astype(np.uint8)[..., None].repeat(3, 2)


def number_in(image: np.ndarray) -> int:
    """The number that a picture shows."""
    height, width = image.shape[:2]
    middles = (np.arange(_BITS) * width + width // 2) // _BITS
    return int((image[height // 4, middles].mean(1) > 125) @ (1 << np.arange(_BITS)))


def rtp_payloads(nal: bytes) -> Iterator[bytes]:
    """A NAL unit as it is, or cut into fragments (FU-A) where it is too long for a packet."""
    if len(nal) <= _MTU:
        yield nal
        return
    header, body = nal[0], nal[1:]
    for at in range(0, len(body), _MTU):
        start, end = at == 0, at + _MTU >= len(body)
        headers = bytes([header & 0xE0 | _FU_A, start << 7 | end << 6 | header & 0x1F])
        yield headers + body[at : at + _MTU]


class Encoder:
    """H.264 without delay: each picture comes out when it goes in."""

    def __init__(self, fps: Fraction, size: Size, draw: Draw = picture) -> None:
        self.size, self._draw = size, draw
        self._codec = av.CodecContext.create("libx264", "w")
        self._codec.width, self._codec.height = size
        self._codec.pix_fmt, self._codec.thread_count = "yuv420p", 1
        self._codec.framerate, self._codec.time_base = fps, 1 / fps
        self._codec.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "25"}

    def __call__(self, number: int) -> list[bytes]:
        """The NAL units of a frame; before each key frame the parameter sets."""
        frame = av.VideoFrame.from_ndarray(self._draw(number, self.size), format="rgb24")
        frame.pts, frame.time_base = number, self._codec.time_base
        (packet,) = self._codec.encode(frame)
        return re.split(rb"\x00\x00\x00?\x01", bytes(packet))[1:]


class RtspServer(socketserver.ThreadingTCPServer):
    """Serves while it is entered: `with RtspServer() as server: open_source(server.url)`."""

    allow_reuse_address = True

    def __init__(
        self,
        n_frames: int | None = None,
        fps: float = 25,
        size: Size = (320, 240),
        port: int = 0,
        *,
        draw: Draw = picture,
        password: str | None = None,
    ) -> None:
        """Listen at a free port or a chosen one; after `n_frames` every stream ends.

        The size is width and height, px, both even; it may be set anew at any time. The password
        is `user:password` (RFC 7617).
        """
        super().__init__(("127.0.0.1", port), _Connection)
        self.n_frames, self.fps, self.size = n_frames, Fraction(fps).limit_denominator(1001), size
        self.url = f"rtsp://127.0.0.1:{self.server_address[1]}/camera"
        self.draw, self.password = draw, password
        self.stalls = self.garbles = False
        """While set, no frame is finished, or frames are noise."""
        self.rate: float | None = None
        """Bytes a second at most."""
        self.sent = -1
        """The newest frame that went out to anybody."""
        self.clients: set[socket.socket] = set()
        self.start: float | None = None
        """When frame 0 was due, on the monotonic clock, s."""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Stop listening and drop all connections, as a power cut would."""
        self.shutdown()
        with self._changed:
            for client in self.clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        self.server_close()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While something changes that `wait_until` looks at."""
        with self._changed:
            yield
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], patience: float = 20.0) -> bool:
        """Whether a condition on `sent` or `clients` comes true, in time (s)."""
        with self._changed:
            return self._changed.wait_for(condition, patience)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.changing():
            self.clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.changing():
            self.clients.remove(request)
        super().shutdown_request(request)


class _Connection(socketserver.StreamRequestHandler):
    """One client: its requests are answered in between the frames."""

    server: RtspServer
    rbufsize = 0  # so that select sees all that is unread

    def setup(self) -> None:
        super().setup()
        self._next: int | None = None
        self._sequence = 0
        self._encode = self._encoder()

    def _encoder(self) -> Encoder:
        return Encoder(self.server.fps, self.server.size, self.server.draw)

    def handle(self) -> None:
        with suppress(OSError, struct.error):  # cut off, perhaps in the middle of a report
            while True:
                asked, _, _ = select.select([self.connection], [], [], self._time_left())
                if not asked:
                    self._send_frame()
                elif not self._answer():
                    return

    def _time_left(self) -> float | None:
        """Until the next frame is due, s; None while there is no next."""
        if self._next is None or self.server.start is None:
            return None
        due = self.server.start + float(self._next / self.server.fps)
        return max(0.0, due - time.monotonic())

    def _answer(self) -> bool:
        """Answer one request; whether the conversation goes on."""
        first = self.rfile.read(1)
        if first == b"$":  # the receiver reports (RTCP)
            _, length = struct.unpack("!BH", self.connection.recv(3, socket.MSG_WAITALL))
            self.connection.recv(length, socket.MSG_WAITALL)
            return True
        method = (first + self.rfile.readline()).partition(b" ")[0].decode()
        lines = iter(lambda: self.rfile.readline().decode().strip(), "")
        asked = {key.lower(): value.strip() for key, _, value in (s.partition(":") for s in lines)}
        if not method:
            return False
        status, headers, body = self._reply(method, asked)
        headers = {"CSeq": asked["cseq"], "Content-Length": str(len(body)), **headers}
        text = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        self.wfile.write(f"RTSP/1.0 {status}\r\n{text}\r\n{body}".encode())
        return method != "TEARDOWN"

    def _reply(self, method: str, asked: dict[str, str]) -> tuple[str, dict[str, str], str]:
        """The status, headers and body that answer a method."""
        if not self._may_enter(asked):
            return "401 Unauthorized", {"WWW-Authenticate": 'Basic realm="camera"'}, ""
        if method == "OPTIONS":
            return "200 OK", {"Public": "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"}, ""
        if method == "DESCRIBE":
            headers = {"Content-Type": "application/sdp", "Content-Base": self.server.url + "/"}
            return "200 OK", headers, self._description()
        if method == "SETUP" and "TCP" not in asked["transport"]:
            return "461 Unsupported Transport", {}, ""
        if method == "SETUP":
            transport = "RTP/AVP/TCP;unicast;interleaved=0-1"
            return "200 OK", {"Transport": transport, "Session": "1;timeout=60"}, ""
        if method == "PLAY":
            now, server = time.monotonic(), self.server
            server.start = now if server.start is None else server.start
            self._next = int((now - server.start) * server.fps)
        elif method != "TEARDOWN":
            return "405 Method Not Allowed", {}, ""
        return "200 OK", {"Session": "1"}, ""

    def _may_enter(self, asked: dict[str, str]) -> bool:
        if self.server.password is None:
            return True
        known = base64.b64encode(self.server.password.encode()).decode()
        return asked.get("authorization") == f"Basic {known}"

    def _description(self) -> str:
        """What is sent, with its parameter sets (SDP)."""
        nals = self._encoder()(0)
        sets = [base64.b64encode(n).decode() for n in nals if n[0] & 0x1F in (_SPS, _PPS)]
        return (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
            "m=video 0 RTP/AVP 96\r\n"
            f"a=rtpmap:96 H264/{_CLOCK}\r\n"
            f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={','.join(sets)}\r\n"
            f"a=framerate:{float(self.server.fps):g}\r\n"
            "a=control:track0\r\n"
        )

    def _send_frame(self) -> None:
        """Send the frame that is due; after the last, no more."""
        assert self._next is not None
        number, last = self._next, self.server.n_frames
        if last is not None and number >= last:
            self._next = None
            self.connection.shutdown(socket.SHUT_WR)  # the client reads to the end, then closes
            return
        if self._encode.size != self.server.size:
            self._encode = self._encoder()
        data = b"".join(self._packets(number))
        if self.server.stalls:
            self.wfile.write(data[: len(data) // 2])  # the rest comes when the stall is over
            data = data[len(data) // 2 :]
            while self.server.stalls:
                time.sleep(0.02)
        self._write(data)
        self._next = number + 1
        with self.server.changing():
            self.server.sent = max(self.server.sent, number)

    def _write(self, data: bytes) -> None:
        if self.server.rate is None:
            self.wfile.write(data)
            return
        for at in range(0, len(data), 256):
            self.wfile.write(data[at : at + 256])
            time.sleep(256 / self.server.rate)

    def _packets(self, number: int) -> Iterator[bytes]:
        """The RTP packets of a frame, each after the four bytes that tell it from an answer."""
        tick = (_FIRST_TICK + round(number * _CLOCK / self.server.fps)) % 2**32
        payloads = [p for nal in self._encode(number) for p in rtp_payloads(nal)]
        for i, payload in enumerate(payloads):
            if self.server.garbles:
                payload = np.random.default_rng(number).bytes(len(payload))
            marker = i == len(payloads) - 1
            header = struct.pack("!BBHII", 0x80, marker << 7 | 96, self._sequence, tick, 1)
            self._sequence = (self._sequence + 1) % 2**16
            yield struct.pack("!cBH", b"$", 0, len(header) + len(payload)) + header + payload
