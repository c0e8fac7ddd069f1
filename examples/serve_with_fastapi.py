"""A service of your own that batches: uvicorn serve_with_fastapi:app, with BUNDLE in the environment."""

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response
from PIL import Image

import ganrt
from ganrt.serve import Batcher


@asynccontextmanager
async def run_batcher(app: FastAPI) -> AsyncIterator[dict[str, Batcher]]:
    with ganrt.load(os.environ["BUNDLE"]) as generator, Batcher(generator) as batcher:
        yield {"batcher": batcher}


app = FastAPI(lifespan=run_batcher)


@app.get("/pictures/{seed}")
async def make_picture(request: Request, seed: int) -> Response:
    try:
        answer = await asyncio.wrap_future(request.state.batcher.sample(1, seed=seed, timeout_s=10.0))
    except ganrt.RequestError as error:
        raise HTTPException(400, str(error)) from error
    except ganrt.OverloadedError as error:
        raise HTTPException(429, str(error), {"Retry-After": f"{error.retry_after_s:.0f}"}) from error
    buffer = io.BytesIO()
    Image.fromarray(answer.pictures[0].squeeze()).save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png")
