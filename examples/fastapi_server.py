"""A server for pictures, which runs those that arrive together as one batch.

    pip install 'maskrt[cpu]' fastapi uvicorn
    cd examples && MASKRT_BUNDLE=street.maskrt uvicorn --factory fastapi_server:from_environment

    curl --data-binary @street.jpg 'localhost:8000/instances?min_score=0.5'

| | |
|---|---|
| `POST /instances` | the bytes of a picture → its instances, as COCO results |
| `GET /model` | classes, size of the canvas, target, precision |
| `GET /health` | 200 while the engine is open |

An engine has a fixed batch: compile with `--batch 4` and four requests cost one run. A request
waits for others no longer than `MASKRT_WAIT_MS` (5), and not at all once a batch is full. When more
than `MASKRT_QUEUE` (64) wait, a new one is told to come later (503): a queue that grows helps
nobody. One worker an engine: start several with a port each if one does not fill the machine.

maskrt itself is no server; to serve engines at scale, `maskrt package --triton`
(`triton_client.py`).
"""

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from PIL import Image

import maskrt
from maskrt.runtime import load_picture

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000


def from_environment() -> FastAPI:
    """Return the application of the engine that the environment names."""
    session = maskrt.load(
        os.environ["MASKRT_BUNDLE"],
        os.environ.get("MASKRT_TARGET"),
        precision=os.environ.get("MASKRT_PRECISION"),
        trust=os.environ.get("MASKRT_TRUST_KEY", False),
    )
    wait_ms = float(os.environ.get("MASKRT_WAIT_MS", "5"))
    return application(session, wait_ms=wait_ms, queue=int(os.environ.get("MASKRT_QUEUE", "64")))


def application(session: maskrt.Session, *, wait_ms: float = 5.0, queue: int = 64) -> FastAPI:
    """Return the application of an open engine, which it closes when it is shut down."""
    batches = Batches(session, wait_ms=wait_ms, most=queue)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(batches.work())
        try:
            yield
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
            session.close()

    app = FastAPI(title="maskrt", lifespan=life)

    @app.post("/instances")
    async def instances(
        request: Request, min_score: float = Query(0.5, ge=0, le=1)
    ) -> dict[str, object]:
        image = await asyncio.to_thread(decode, await body_of(request))
        try:
            found = await batches.find(image)
        except asyncio.QueueFull:
            raise HTTPException(503, "too many pictures wait", {"Retry-After": "1"}) from None
        except maskrt.MaskrtError as error:
            raise HTTPException(500, str(error)) from None
        entries = await asyncio.to_thread(found.above(min_score).to_coco, 0)
        for entry in entries:
            del entry["image_id"]
            entry["name"] = found.name_of(entry["category_id"])
        return {"image_size": found.image_size, "instances": entries}

    @app.get("/model")
    def model() -> dict[str, object]:
        return {
            "classes": list(session.class_names or ())[1:],
            "canvas": [session.spec.height, session.spec.width],
            "batch": session.spec.batch,
            **session.describe(),
        }

    @app.get("/health")
    def health() -> dict[str, str]:
        session.describe()
        return {"status": "open"}

    return app


async def body_of(request: Request) -> bytes:
    """Return a request's body, or refuse it before it is all in memory."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise HTTPException(413, f"a picture has at most {MAX_BYTES} bytes")
    return bytes(body)


def decode(body: bytes) -> np.ndarray:
    """Return the pixels of a picture's bytes, turned upright."""
    try:
        with Image.open(io.BytesIO(body)) as image:
            if image.width * image.height > MAX_PIXELS:  # a small file may hold a huge picture
                raise HTTPException(413, f"a picture has at most {MAX_PIXELS} pixels")
            return load_picture(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise HTTPException(400, f"this is no picture that can be read: {error}") from None


@dataclass
class Waiting:
    """A picture and who waits for it."""

    image: np.ndarray
    found: "asyncio.Future[maskrt.Instances]"


class Batches:
    """Pictures of many requests, run as few batches."""

    def __init__(self, session: maskrt.Session, *, wait_ms: float, most: int) -> None:
        """Run on `session`; a picture waits `wait_ms` for others, and `most` of them wait."""
        self._session, self._seconds = session, wait_ms / 1e3
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue(most)
        self._coming: asyncio.Task[Waiting] | None = None

    async def find(self, image: np.ndarray) -> maskrt.Instances:
        """Return the instances of a picture.

        Raises:
            QueueFull: too many pictures wait.
        """
        waiting = Waiting(image, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        return await waiting.found

    async def work(self) -> None:
        """Run batches until cancelled, which cancels who waits."""
        batch: list[Waiting] = []
        try:
            while True:
                batch = await self._next()
                await self._run(batch)
        finally:
            if self._coming is not None:
                self._coming.cancel()
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            for waiting in batch:
                waiting.found.cancel()

    async def _next(self) -> list[Waiting]:
        """Wait for a picture, and a little for more; leave out those that nobody waits for."""
        clock = asyncio.get_running_loop().time
        batch: list[Waiting] = []
        until: float | None = None
        while len(batch) < self._session.spec.batch:
            more = await self._take(None if until is None else until - clock())
            if more is None:
                break
            batch.append(more)
            until = clock() + self._seconds if until is None else until
        return [waiting for waiting in batch if not waiting.found.done()]

    async def _take(self, seconds: float | None) -> Waiting | None:
        """Wait so long for a picture; the next call goes on waiting for the same one."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._queue.get())
        done, _ = await asyncio.wait({self._coming}, timeout=seconds)
        if not done:
            return None
        taken, self._coming = self._coming.result(), None
        return taken

    async def _run(self, batch: list[Waiting]) -> None:
        if not batch:
            return
        try:
            found = await asyncio.to_thread(self._session.predict, [one.image for one in batch])
        except Exception as error:
            if len(batch) > 1:  # whose fault it is, each alone shows
                for one in batch:
                    await self._run([one])
            elif not batch[0].found.done():
                batch[0].found.set_exception(error)
            return
        for waiting, instances in zip(batch, found, strict=True):
            if not waiting.found.done():  # who waited may have gone
                waiting.found.set_result(instances)
