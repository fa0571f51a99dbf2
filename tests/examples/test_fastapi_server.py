"""The server in this process: answers, batches, and what it refuses."""

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrt.core import InputSpec

from .painted import Painted, example, loads, painted, session_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("packages")]
SPEC = InputSpec(48, 64, batch=4)


def _png(image: np.ndarray) -> bytes:
    body = io.BytesIO()
    Image.fromarray(image).save(body, "PNG")
    return body.getvalue()


def _served(
    backend: Painted, ask: Callable[[Any], Awaitable[Any]], **options: float
) -> tuple[Any, Any]:
    """Run `ask(client)` against a server of the backend; return its result and the module."""
    import httpx

    server = example("fastapi_server.py")

    async def run() -> Any:
        app = server.application(session_of(backend), **options)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            return await ask(client)

    return asyncio.run(run()), server


def test_requests_that_come_together_are_one_run_and_each_has_its_own_answer() -> None:
    pictures = [painted((1 + i % 3, (i, 5, i + 20, 25)), size=(96, 128)) for i in range(8)]
    backend = Painted(SPEC, seconds=0.05)

    async def ask(client: Any) -> Any:
        sent = (client.post("/instances", content=_png(image)) for image in pictures)
        return await asyncio.gather(*sent)

    answers, _ = _served(backend, ask, wait_ms=2000)
    assert backend.batches == [4, 4]
    with session_of(Painted(SPEC)) as session:
        for answer, image in zip(answers, pictures, strict=True):
            assert answer.status_code == 200
            found = session.predict(image)
            expected = found.to_coco(0)
            (entry,) = answer.json()["instances"]
            assert entry.pop("name") == found.name_of(expected[0]["category_id"])
            assert entry == {k: v for k, v in expected[0].items() if k != "image_id"}
            assert answer.json()["image_size"] == [96, 128]


def test_one_request_waits_no_longer_than_it_was_told_and_scores_are_cut() -> None:
    backend = Painted(SPEC)
    body = _png(painted((1, (0, 0, 9, 9)), (3, (20, 20, 40, 40))))

    async def ask(client: Any) -> Any:
        addresses = (f"/instances?min_score={score}" for score in (0.5, 0.8))
        return [(await client.post(address, content=body)).json() for address in addresses]

    answers, _ = _served(backend, ask, wait_ms=10)
    names = [[entry["name"] for entry in answer["instances"]] for answer in answers]
    assert names == [["red", "blue"], ["red"]]
    assert backend.batches == [1, 1]


def test_what_is_no_picture_or_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _png(painted((1, (0, 0, 9, 9))))

    async def ask(client: Any) -> Any:
        bodies = (b"", b"GIF89a", whole[:-40], whole[:60], b"x" * 2000)
        codes = [(await client.post("/instances", content=body)).status_code for body in bodies]
        wide = _png(np.zeros((1, 4000, 3), np.uint8))
        wrong = await client.post("/instances?min_score=2", content=whole)
        return [*codes, (await client.post("/instances", content=wide)).status_code,
                wrong.status_code]  # fmt: skip

    server = example("fastapi_server.py")
    monkeypatch.setattr("tests.examples.test_fastapi_server.example", lambda _: server)
    monkeypatch.setattr(server, "MAX_BYTES", 1000)
    monkeypatch.setattr(server, "MAX_PIXELS", 3999)
    codes, _ = _served(Painted(SPEC), ask)
    assert codes == [400, 400, 400, 400, 413, 413, 422]


def test_a_full_queue_is_an_answer_and_the_rest_is_served() -> None:
    body = _png(painted((2, (0, 0, 9, 9))))

    async def ask(client: Any) -> Any:
        sent = (client.post("/instances", content=body) for _ in range(20))
        return [answer.status_code for answer in await asyncio.gather(*sent)]

    codes, _ = _served(Painted(SPEC, seconds=0.3), ask, queue=3, wait_ms=1)
    assert set(codes) == {200, 503}
    assert codes.count(200) >= 3


class Failing(Painted):
    """Gives numbers that are not finite for pictures with red."""

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        found = super().run(images)
        found["boxes"][found["labels"] == 1] = np.nan
        return found


def test_one_bad_picture_of_a_batch_is_its_own_sender_s_error() -> None:
    pictures = [painted((label, (3, 5, 20, 25))) for label in (2, 1, 3)]

    async def ask(client: Any) -> Any:
        sent = (client.post("/instances", content=_png(image)) for image in pictures)
        return await asyncio.gather(*sent)

    answers, _ = _served(Failing(SPEC), ask, wait_ms=500)
    assert [answer.status_code for answer in answers] == [200, 500, 200]
    assert "not finite" in answers[1].json()["detail"]


def test_who_goes_away_does_not_hold_up_the_others() -> None:
    backend = Painted(SPEC, seconds=0.1)
    server = example("fastapi_server.py")

    async def run() -> Any:
        batches = server.Batches(session_of(backend), wait_ms=100, most=8)
        worker = asyncio.create_task(batches.work())
        gone = asyncio.create_task(batches.find(painted((1, (0, 0, 9, 9)))))
        stays = asyncio.create_task(batches.find(painted((2, (0, 0, 9, 9)))))
        await asyncio.sleep(0.02)
        gone.cancel()
        found = await asyncio.wait_for(stays, 10)
        late = asyncio.create_task(batches.find(painted((3, (0, 0, 9, 9)))))
        await asyncio.sleep(0.15)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        with pytest.raises(asyncio.CancelledError):
            await late
        return found

    assert asyncio.run(run()).labels.tolist() == [2]
    assert backend.batches[0] == 1


def test_it_says_what_it_serves() -> None:
    async def ask(client: Any) -> Any:
        return (await client.get("/model")).json(), (await client.get("/health")).status_code

    (model, health), _ = _served(Painted(SPEC), ask)
    assert health == 200
    assert model["classes"] == ["red", "green", "blue"]
    assert (model["canvas"], model["batch"], model["backend"]) == ([48, 64], 4, "painted")


def test_the_environment_names_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = loads(monkeypatch, SPEC)
    server = example("fastapi_server.py")
    words = {"bundle": "b.maskrt", "target": "orin-nx", "precision": "int8"}
    for name, value in {**words, "trust_key": "vendor.pub"}.items():
        monkeypatch.setenv(f"MASKRT_{name.upper()}", value)
    server.from_environment()
    assert asked == [{**words, "on_device": False, "trust": "vendor.pub"}]
    for name in ("TARGET", "PRECISION", "TRUST_KEY"):
        monkeypatch.delenv(f"MASKRT_{name}")
    server.from_environment()
    others = {"target": None, "precision": None, "on_device": False, "trust": False}
    assert asked[1] == {"bundle": "b.maskrt", **others}
