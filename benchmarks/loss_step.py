"""Measures one way of computing a loss of upsampled logits and its gradient in this process; prints one line of JSON.

`loss.py` starts this script once per way and repeat, so that none profits from, or pays for, what another left behind.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # as in train_step.py: custom operators import it at their first call
import torch.nn.functional as F
from arguments import positive
from peak_memory import started_meter
from result_check import relative_errors
from torch import Tensor
from train_step import SEED, machine, now

from ladderseg_fast import ops

#: Share of the counted pixels that the loss "ohem" keeps.
KEPT = 0.25

IGNORED = 255

Loss = Callable[[Tensor, Tensor], Tensor]


def torch_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(_upsampled(logits, labels), labels, ignore_index=IGNORED)


def torch_ohem(logits: Tensor, labels: Tensor) -> Tensor:
    losses = F.cross_entropy(_upsampled(logits, labels), labels, ignore_index=IGNORED, reduction="none")
    counted = losses[labels != IGNORED]
    return counted.topk(round(KEPT * len(counted)), sorted=False).values.mean()


def _upsampled(logits: Tensor, labels: Tensor) -> Tensor:
    return F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)


def ohem(logits: Tensor, labels: Tensor) -> Tensor:
    return ops.upsample_ohem_cross_entropy(logits, labels, threshold=None, min_kept=KEPT)


#: By the name of the loss, PyTorch's way and this package's.
LOSSES: dict[str, dict[str, Loss]] = {
    "cross_entropy": {"torch": torch_cross_entropy, "ops": ops.upsample_cross_entropy},
    "ohem": {"torch": torch_ohem, "ops": ohem},
    "dice": {"torch": ops.reference.upsample_dice_loss, "ops": ops.upsample_dice_loss},
    "cross_entropy_dice": {
        "torch": ops.reference.upsample_cross_entropy_dice_loss,
        "ops": ops.upsample_cross_entropy_dice_loss,
    },
}
WAYS = ("torch", "ops")


def main() -> None:
    options = parse_arguments()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    torch.manual_seed(SEED)
    loss = LOSSES[options.loss][options.way]
    logits, labels = (x.to(device) for x in random_scores(options))
    logits.requires_grad_()

    meter = started_meter(device)
    seconds = []
    for _ in range(options.warmup + options.steps):
        logits.grad = None
        started = now(device)
        value = loss(logits, labels)
        value.backward()
        seconds.append(now(device) - started)
    peak = meter.stop()
    result = {"peak_bytes": peak, "reserved_bytes": meter.reserved, "how_measured": meter.how}
    result["seconds"] = statistics.median(seconds[options.warmup :])

    results = {"float32": {"loss": value.detach().cpu().double(), "gradient": logits.grad.cpu().double()}}
    results["float64"] = exact_result(loss, logits.detach().cpu(), labels.cpu())
    if options.save_reference:
        torch.save(results, options.save_reference)
    if options.reference:
        result["errors"] = relative_errors(results, torch.load(options.reference, weights_only=True))
    print(json.dumps(result | {"machine": machine(device)}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--loss", choices=LOSSES, required=True)
    add_shape_options(parser)
    parser.add_argument("--save-reference", type=Path, metavar="FILE", help="write loss and gradient there")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="compare loss and gradient with those")
    return parser.parse_args()


def add_shape_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=positive, default=2, metavar="N")
    parser.add_argument("--classes", type=positive, default=19, metavar="K")
    parser.add_argument("--stride", type=positive, default=4, metavar="N", help="labels' size over logits' size")
    parser.add_argument("--height", type=positive, default=1024, metavar="H", help="of the labels")
    parser.add_argument("--width", type=positive, default=2048, metavar="W", help="of the labels")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=positive, metavar="N", help="default: what torch chooses")
    parser.add_argument("--warmup", type=positive, default=1, metavar="N", help="steps that are not timed")
    parser.add_argument("--steps", type=positive, default=3, metavar="N", help="timed steps")


def random_scores(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Logits [N, K, h, w], channels_last as most heads leave them, and labels [N, H, W], some of them ignored."""
    coarse = max(options.height // options.stride, 1), max(options.width // options.stride, 1)
    logits = torch.randn(options.batch, options.classes, *coarse).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, options.classes, (options.batch, options.height, options.width))
    labels[:, : options.height // 16] = IGNORED
    return logits, labels


def exact_result(loss: Loss, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Loss and gradient in float64 of the first coarse pixels against the first labels, in another ratio."""
    crop = logits[:1, :, :8, :8].double().requires_grad_()
    value = loss(crop, labels[:1, -60:, :50].contiguous())
    value.backward()
    return {"loss": value.detach(), "gradient": crop.grad}


if __name__ == "__main__":
    main()
