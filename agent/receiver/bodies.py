"""Request bodies on their way in: decoded, counted, bounded, and whole before anything is locked."""

import asyncio
import io
import tempfile
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self

import zstandard
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from agent.core.transcripts.objects import is_object
from agent.core.transcripts.transcript import LONG_LINE_BYTES, entry_uuid
from agent.receiver.lines import LongLine
from agent.receiver.problems import bad_request

_MEMORY_BYTES = 4 << 20
"""A body above this waits in a temporary file."""

STEP_BYTES = 1 << 20
"""How much of a long body is gathered for one go in a worker thread."""

_SLICE_BYTES = 256
"""How much compressed input is decoded at once. zstd's densest block is 4 bytes for 128 KiB, so a bomb can make
8 MiB of one slice before it is counted, and no more."""

_WINDOW_BYTES = 8 << 20
"""RFC 8878 asks for no more of a receiver, and a frame may claim any window."""

_IDLE_S = 300.0
"""A client that sends slowly on purpose pauses for less. One that is gone without a word is not waited for longer."""

_FREE_FRAMES = 16
_FRAME_BYTES = 1024
"""Each further frame of a compressed body stands for at least so many bytes of it, on average. A frame costs as much as
decoding some KiB, whatever is in it, and the smallest has 8 bytes."""

_FREE_BYTES = 64 << 20
_RATIO = 200
"""How much a body may grow by decoding beyond the free bytes. Transcripts grow 5 to 50 times; zeros 30,000 times."""

ENCODINGS = ("zstd", "gzip")


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_bytes` and `max_entries` bound a batch, `max_entry_bytes` a single entry, which may be a batch's only one.
    All are sizes after decoding, newline excluded for the last. `max_file_bytes` bounds a side file."""

    max_bytes: int = 8 << 20
    max_entries: int = 10_000
    max_entry_bytes: int = 256 << 20
    max_file_bytes: int = 8 << 30


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj(),
}


class Intake:
    """One body. Every violation of the limits is a 413 as soon as it shows, everything else wrong a 400."""

    def __init__(self, limits: Limits, encoding: str | None, *, lines: bool) -> None:
        self._limits = limits
        self._new_decoder = self._decoders(encoding)
        self._decoder: _Decoder | None = None
        self._batch = lines
        self._memory: list[bytes] = []
        self._file: BinaryIO | None = None
        self._size = self._newlines = self._received = self._frames = 0
        self._last = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._file is not None:
            self._file.close()

    @staticmethod
    def _decoders(encoding: str | None) -> Callable[[], _Decoder] | None:
        name = (encoding or "identity").strip().lower()
        if name == "identity":
            return None
        if name not in _DECODERS:
            raise bad_request(f"Content-Encoding: must be one of {', '.join(ENCODINGS)}, or left out")
        return _DECODERS[name]

    def feed(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limits.max_entry_bytes + 1:
            raise self._too_large()
        if self._new_decoder is None:
            self._keep(data)
            return
        try:
            for start in range(0, len(data), _SLICE_BYTES):
                self._decode(data[start : start + _SLICE_BYTES], self._new_decoder)
        except (zlib.error, zstandard.ZstdError):
            raise bad_request("Content-Encoding: the body is not what the header says, or broken") from None

    def _decode(self, data: bytes, new_decoder: Callable[[], _Decoder]) -> None:
        while data:
            if self._decoder is None:
                self._frames += 1
                if self._frames > _FREE_FRAMES + self._received // _FRAME_BYTES:
                    raise HTTPException(413, f"a compressed body has frames of at least {_FRAME_BYTES} bytes")
                self._decoder = new_decoder()
            self._keep(self._decoder.decompress(data))
            if not self._decoder.eof:
                return
            data, self._decoder = self._decoder.unused_data, None

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._size += len(data)
        self._newlines += data.count(b"\n")
        self._last = data[-1:]
        one_line = self._newlines - (self._last == b"\n") < 1
        allowed = self._limits.max_entry_bytes + 1 if one_line or not self._batch else self._limits.max_bytes
        if self._new_decoder is not None:
            allowed = min(allowed, max(_FREE_BYTES, self._received * _RATIO))
        if self._size > allowed or (self._batch and self._newlines > self._limits.max_entries):
            raise self._too_large()
        if self._file is None and self._size > _MEMORY_BYTES:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - __exit__ closes it
            self._file.writelines(self._memory)
            self._memory.clear()
        if self._file is None:
            self._memory.append(data)
        else:
            self._file.write(data)

    def _too_large(self) -> HTTPException:
        limits = self._limits
        return HTTPException(
            413,
            f"at most {limits.max_bytes} bytes and {limits.max_entries} entries a batch,"
            f" {limits.max_entry_bytes} bytes an entry",
        )

    def batch(self) -> BinaryIO:
        """The body as whole lines, at its beginning."""
        self._end()
        if self._last != b"\n":
            raise bad_request("body: every line ends with a newline (0x0A), the last one too")
        return self._whole()

    def entry(self) -> tuple[BinaryIO, str]:
        """The body as one line with its newline, at its beginning, and its uuid."""
        self._end()
        if self._newlines:
            raise bad_request("body: one entry without a raw newline (0x0A)")
        file = self._whole()
        valid, uuid = self._describe(file)
        if not valid:
            raise bad_request("body: one JSON object in UTF-8")
        if uuid is None:
            raise HTTPException(422, "body: an entry needs a uuid of 1 to 128 printable ASCII characters here")
        file.seek(0, io.SEEK_END)
        file.write(b"\n")
        file.seek(0)
        return file, uuid

    def _whole(self) -> BinaryIO:
        if self._file is None:
            self._file = io.BytesIO(b"".join(self._memory))
        self._file.seek(0)
        return self._file

    def _end(self) -> None:
        if self._decoder is not None:
            raise bad_request("Content-Encoding: the body ends too early")
        if not self._size:
            raise bad_request("body: empty")

    def _describe(self, file: BinaryIO) -> tuple[bool, str | None]:
        if self._size <= LONG_LINE_BYTES:
            line = file.read()
            return is_object(line), entry_uuid(line)
        long = LongLine(b"")
        while piece := file.read(LONG_LINE_BYTES):
            long.feed(piece)
        return long.is_object(), long.uuid()


async def receive(request: Request, intake: Intake) -> bytes:
    """Takes the body in as far as it is long, and gives its rest, to be fed where the work goes on."""
    rest = b""
    async for step in steps_of(request):
        if len(step) < STEP_BYTES:
            rest = step
        else:
            await run_in_threadpool(intake.feed, step)
    return rest


async def steps_of(request: Request, step_bytes: int = STEP_BYTES) -> AsyncIterator[bytes]:
    """The body in pieces of at least `step_bytes`, but for the last one; that comes also before ClientDisconnect.
    408 when the client sends nothing for five minutes."""
    pending: list[bytes] = []
    size = 0
    body = request.stream()
    gone: ClientDisconnect | None = None
    while True:
        try:
            async with asyncio.timeout(_IDLE_S):
                chunk = await anext(body, None)
        except TimeoutError:
            raise HTTPException(408, f"no byte came for {_IDLE_S:.0f} s") from None
        except ClientDisconnect as exc:
            gone, chunk = exc, None
        if chunk is None:
            break
        pending.append(chunk)
        size += len(chunk)
        if size >= step_bytes:
            yield b"".join(pending)
            pending, size = [], 0
    if size:
        yield b"".join(pending)
    if gone is not None:
        raise gone


async def receive_small(request: Request, max_bytes: int) -> bytes:
    """A body that has no business being long."""
    data = bytearray()
    async for step in steps_of(request, 1):
        data += step
        if len(data) > max_bytes:
            raise HTTPException(413, f"at most {max_bytes} bytes")
    return bytes(data)
