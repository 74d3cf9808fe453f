"""Suite that every combination of platforms must pass: checks/matrix.py and checks/wheel.py run it in each.

The package is the installed one; from the checkout come only the suites of tests/support, which need pytest. Parts:
operators (every instruction set of the processor, float32, float64 and, where there are products of it, bfloat16; one
to sixteen threads; what torch.library.opcheck looks at), a training step of a ladder, lean against plain, and the
commands `python -m ladderseg_fast.info` and `ladderseg train`, which write and read files by numpy and pillow.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before torch is loaded: threads that spin while they wait take each other's processors.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy
import torch

from ladderseg_fast import _core

CLAIM = "The short suite passes in this environment."
THREADS = (1, 2, 3, 4, 8, 16)


def operators() -> dict[str, Any]:
    """Every operator, with its gradients, is as accurate as plain torch with each instruction set."""
    from support.operator_suite import instruction_set, threads
    from support.operator_suites import SUITES

    sets = _core.supported_instruction_sets()
    calls = 0
    for name in sets:
        with instruction_set(name), threads(2):
            dtypes = [torch.float32, torch.float64] + [torch.bfloat16] * _core.has_bfloat16()
            for suite in SUITES.values():
                for dtype in dtypes:
                    for shape in (suite.small, suite.large):
                        suite.check(suite.prepared(shape, dtype))
                        calls += 1
    return {"instruction sets": sets, "operators": len(SUITES), "comparisons": calls}


def team_sizes() -> dict[str, Any]:
    """The same, on 1 to 16 threads, with the fastest instruction set."""
    from support.operator_suite import threads
    from support.operator_suites import SUITES

    for count in THREADS:
        with threads(count):
            for suite in SUITES.values():
                suite.check(suite.prepared(suite.large))
    return {"threads": list(THREADS)}


def registration() -> dict[str, Any]:
    """Schemas, fake implementations and gradients are registered as this torch wants them."""
    from support.operator_suites import SUITES

    for suite in SUITES.values():
        torch.library.opcheck(suite.overload(), tuple(suite.prepared(suite.small).values()))
    return {"operators": len(SUITES)}


def training_step() -> dict[str, Any]:
    """Three lean steps of a small ladder give the losses and gradients of plain ones, in float64."""
    from support.comparison import assert_near
    from support.ladder_models import TINY, TINY_SHAPE, make_images, make_labels, make_model, training_loss

    from ladderseg_fast.nn import DENSENETS

    DENSENETS[TINY] = TINY_SHAPE
    images, labels = make_images(2, 96, 64), make_labels(2, 96, 64)
    lean, plain = make_model(memory="lean"), make_model(memory="plain")
    for step in range(3):
        losses = []
        for model in (lean, plain):
            model.zero_grad()
            loss = training_loss(model, images, labels)
            loss.backward()
            losses.append(loss.detach())
        assert_near(*losses, f"loss of step {step}")
        for (name, a), b in zip(lean.named_parameters(), plain.parameters()):
            assert a.grad is not None and b.grad is not None, name
            assert_near(a.grad, b.grad, f"gradient of {name}", tolerance=1e-8)
    return {"steps": 3, "parameters": sum(1 for _ in lean.parameters())}


def _run(*command: str, cwd: str) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1200)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} exited with {result.returncode}:\n{result.stderr[-3000:]}")
    return result.stdout


def commands() -> dict[str, Any]:
    """The package says what it is made of, and a short training with its evaluation leaves its files."""
    ladderseg = str(Path(sys.executable).with_name("ladderseg"))
    with tempfile.TemporaryDirectory() as folder:
        facts = _run(sys.executable, "-m", "ladderseg_fast.info", cwd=folder).splitlines()
        arguments = ["--steps", "2", "--size", "64x96", "--workers", "1", "--device", "cpu", "--out", "run"]
        _run(ladderseg, "train", *arguments, cwd=folder)
        written = sorted(path.name for path in Path(folder, "run").iterdir())
    return {"lines of info": len(facts), "run": written}


PARTS: tuple[Callable[[], dict[str, Any]], ...] = (commands, training_step, operators, team_sizes, registration)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result goes as JSON too")
    parser.add_argument("--record", action="store_true", help="record the result of this environment")
    parser.add_argument("--parts", default=",".join(part.__name__ for part in PARTS), help="(default: %(default)s)")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
        "build": _core.build_info(),
        "parts": {},
        "failed": {},
    }
    for part in PARTS:
        if part.__name__ not in options.parts.split(","):
            continue
        start = time.process_time()
        try:
            result["parts"][part.__name__] = part()
            print(f"{part.__name__}: passed, {time.process_time() - start:.1f} s of processor time", flush=True)
        except Exception as error:
            traceback.print_exc()
            result["failed"][part.__name__] = f"{type(error).__name__}: {str(error).strip()[:1000]}"
            print(f"{part.__name__}: FAILED", flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    if options.record:
        from record import record

        found = f"{len(result['parts'])} parts passed, {len(result['failed'])} failed"
        record("short_suite", claim=CLAIM, found=found, figures=result)
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
