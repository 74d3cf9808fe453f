"""Compares two checkouts bit for bit: one training step and one prediction of every registered model, on the CPU.

    python benchmarks/same_bits.py OLD NEW [--models PATTERN] [--threads 1 2]

OLD and NEW are directories that hold a `ladderseg_fast` with its compiled core. Each model runs in a process of its
own, from the same seed: scores, loss, gradients, buffers, and predicted labels. The exit status is 1 if they differ.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import subprocess
import sys

BATCH, HEIGHT, WIDTH, CLASSES = 2, 128, 192, 19


def digests(name: str, threads: int) -> dict[str, str]:
    """SHA-256 of each result of one training step of model `name`, and of the labels it predicts, by its name."""
    import torch

    import ladderseg_fast

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = ladderseg_fast.create_model(name, num_classes=CLASSES)
    images = torch.randn(BATCH, 3, HEIGHT, WIDTH)
    labels = torch.randint(0, CLASSES, (BATCH, HEIGHT, WIDTH))
    output = model(images)
    loss = ladderseg_fast.LadderLoss()(output, labels)
    loss.backward()
    tensors = {"loss": loss, "scores": output.logits}
    tensors |= {f"gradient of {key}": parameter.grad for key, parameter in model.named_parameters()}
    tensors |= dict(model.named_buffers())
    tensors["labels"] = model.eval().predict(images)
    found = {}
    for key, tensor in tensors.items():
        data = tensor.detach().contiguous().numpy().tobytes()
        found[key] = hashlib.sha256(data).hexdigest()
    return found


def run_in(checkout: str, *arguments: str) -> dict | list:
    """Output of this script when it runs on the package in `checkout`, parsed from JSON."""
    environment = os.environ | {"PYTHONPATH": os.path.abspath(checkout)}
    command = [sys.executable, os.path.abspath(__file__), *arguments]
    # Not in a checkout: its package would come before the one asked for.
    result = subprocess.run(command, env=environment, cwd=os.path.dirname(command[1]), stdout=subprocess.PIPE)
    if result.returncode != 0:
        sys.exit(f"{checkout}: {' '.join(arguments)} failed")
    return json.loads(result.stdout)


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Names that only one of them has, or that differ."""
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", metavar="OLD NEW")
    parser.add_argument("--models", default="*", help="a shell pattern of names")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--digest", help=argparse.SUPPRESS)
    parser.add_argument("--names", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.names:
        import ladderseg_fast

        if not ladderseg_fast.__file__.startswith(os.environ["PYTHONPATH"]):
            sys.exit(f"{os.environ['PYTHONPATH']} holds no ladderseg_fast")
        print(json.dumps(ladderseg_fast.list_models()))
        return
    if arguments.digest:
        print(json.dumps(digests(arguments.digest, arguments.threads[0])))
        return
    if len(arguments.checkouts) != 2:
        parser.error("two checkouts are needed: OLD and NEW")
    old, new = arguments.checkouts
    differing = 0
    for name in fnmatch.filter(run_in(old, "--names"), arguments.models):
        for threads in arguments.threads:
            job = ("--digest", name, "--threads", str(threads))
            before, after = run_in(old, *job), run_in(new, *job)
            found = differences(before, after)
            differing += bool(found)
            verdict = "the same bits" if not found else f"{len(found)} differ: {', '.join(found[:3])} ..."
            print(f"{name:28} {threads} thread(s): {len(before)} tensors, {verdict}", flush=True)
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
