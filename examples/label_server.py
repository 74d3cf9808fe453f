"""Answers images with their labels over HTTP: `python examples/label_server.py RUN`, RUN as of `ladderseg train`.

    curl --data-binary @street.jpg http://127.0.0.1:8000/labels > labels.png

It is for one machine, and anybody on it may ask; what faces a network belongs behind a proxy.
"""

import argparse
import io
import tempfile
import threading
from pathlib import Path

import torch
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from ladderseg_fast.data import read_image
from ladderseg_fast.engine import build_model, load_checkpoint, predict_image
from ladderseg_fast.engine.overlay import labels_picture

#: Bytes of a request.
MOST_BYTES = 32 << 20


def label_server(run: Path, device: str = "cpu") -> FastAPI:
    """Application with one address: an image is posted to /labels, and its labels come back as a palette PNG."""
    checkpoint = load_checkpoint(run)
    model = build_model(checkpoint, torch.device(device))
    one_at_a_time = threading.Lock()  # the buffers of a lean model serve one call
    app = FastAPI()

    def label(content: bytes) -> bytes:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            try:
                pixels = read_image(Path(file.name), checkpoint.normalisation.form)
            except (OSError, ValueError) as error:
                raise ValueError(str(error).removeprefix(f"{file.name}: ")) from error
        with one_at_a_time:
            labels = predict_image(model, pixels, checkpoint.normalisation, checkpoint.size)
        answer = io.BytesIO()
        labels_picture(labels, checkpoint.label_set).save(answer, format="PNG")
        return answer.getvalue()

    @app.post("/labels")
    async def labels(request: Request) -> Response:
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > MOST_BYTES:
                raise HTTPException(413, f"an image may have {MOST_BYTES} bytes")
        try:
            return Response(await run_in_threadpool(label, bytes(content)), media_type="image/png")
        except (OSError, ValueError) as error:
            raise HTTPException(400, str(error)) from error

    return app


if __name__ == "__main__":
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    uvicorn.run(label_server(options.run, options.device), host="127.0.0.1", port=options.port)
