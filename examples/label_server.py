"""Answers images with their labels over HTTP: `python examples/label_server.py RUN`, RUN as of `ladderseg train`.

    curl --data-binary @street.jpg http://127.0.0.1:8000/labels > labels.png

It is for one machine; what faces a network belongs behind a proxy that limits the size of requests.
"""

import argparse
import io
import threading
from pathlib import Path

import numpy as np
import torch
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from PIL import Image, ImageOps

from ladderseg_fast.engine import build_model, load_checkpoint, predict_image
from ladderseg_fast.engine.overlay import labels_picture


def label_server(run: Path, device: str = "cpu") -> FastAPI:
    """Application with one address: an image is posted to /labels, and its labels come back as a palette PNG."""
    checkpoint = load_checkpoint(run)
    model = build_model(checkpoint, torch.device(device))
    one_at_a_time = threading.Lock()  # the buffers of a lean model serve one call
    app = FastAPI()

    def label(content: bytes) -> bytes:
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
        with one_at_a_time:
            labels = predict_image(model, np.asarray(picture), checkpoint.normalisation, checkpoint.size)
        answer = io.BytesIO()
        labels_picture(labels, checkpoint.label_set).save(answer, format="PNG")
        return answer.getvalue()

    @app.post("/labels")
    async def labels(request: Request) -> Response:
        try:
            return Response(await run_in_threadpool(label, await request.body()), media_type="image/png")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise HTTPException(400, f"cannot read the image ({error})") from error

    return app


if __name__ == "__main__":
    import uvicorn

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    uvicorn.run(label_server(options.run, options.device), host="127.0.0.1", port=options.port)
