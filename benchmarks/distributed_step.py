"""Measures a training step that several processes share, in one of them; prints one line of JSON.

The step is forward, loss and backward, in which DistributedDataParallel averages the gradients; no optimiser. Each
process has its part of the batch, as in `torchrun -m ladderseg_fast train`. `distributed.py` starts this script once
per process.
"""

import argparse
import datetime
import json
import statistics
import time

import torch
import torch._dynamo  # here it counts as no step's memory, see train_step.py
import torch.distributed as dist
from alternatives import build
from arguments import add_step_options, parsed_step, positive
from peak_memory import started_meter
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from train_step import NUM_CLASSES, SEED, machine, random_batch


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads or 1)
    torch.manual_seed(SEED)
    model, loss = build(options.method, options.model, NUM_CLASSES, options.channels_last)
    images, labels = random_batch(options.batch, options.size)
    images, labels = images.chunk(options.processes)[options.rank], labels.chunk(options.processes)[options.rank]
    buckets: list[int] = []
    if options.processes > 1:
        model = share_steps(model, options, buckets)
    meter = started_meter(images.device)
    seconds = []
    for _ in range(options.warmup + options.steps):
        model.zero_grad(set_to_none=True)
        buckets.clear()
        started = time.perf_counter()
        loss(model(images), labels).backward()
        seconds.append(time.perf_counter() - started)
    peak = meter.stop()
    measured = {"seconds": statistics.median(seconds[options.warmup :]), "peak_bytes": peak, "how_measured": meter.how}
    measured |= {"calls": len(buckets), "bytes": sum(buckets), "machine": machine(images.device)}
    print(json.dumps(measured))
    if options.processes > 1:
        dist.destroy_process_group()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("plain", "lean"), required=True)
    parser.add_argument("--rank", type=int, default=0, metavar="N")
    parser.add_argument("--processes", type=positive, default=1, metavar="N")
    parser.add_argument("--rendezvous", metavar="FILE", help="where the processes meet")
    add_step_options(parser)
    options = parsed_step(parser)
    if options.batch % options.processes:
        parser.error(f"--batch {options.batch} cannot be shared by {options.processes} processes")
    return options


def share_steps(model: nn.Module, options: argparse.Namespace, buckets: list[int]) -> DistributedDataParallel:
    """`model` in a group of processes, which notes the bytes of each collective call for gradients in `buckets`."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{options.rendezvous}",
        rank=options.rank,
        world_size=options.processes,
        timeout=datetime.timedelta(minutes=5),
    )
    replica = DistributedDataParallel(model, gradient_as_bucket_view=True)
    replica.broadcast_buffers = False

    def average(state: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        """Averages a bucket over the processes, as DistributedDataParallel does without a hook."""
        gradients = bucket.buffer().div_(options.processes)
        buckets.append(gradients.nbytes)
        work = dist.all_reduce(gradients, async_op=True)
        return work.get_future().then(lambda done: done.value()[0])

    replica.register_comm_hook(None, average)
    return replica


if __name__ == "__main__":
    main()
