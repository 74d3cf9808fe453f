"""Property tests of the numbers: lean stages and models against plain PyTorch, on cases that hypothesis draws.

    python checks/numerics.py --record
    python checks/numerics.py --examples 20 --seed 7      # shorter
    python checks/numerics.py --only not-finite

Shapes from one pixel, one channel and one image on, strides, modes, options of batch norms, plans, threads and
instruction sets; large means with small variances, constant channels, denormals, NaN and infinities. A case that fails
is made as small as hypothesis can, and printed.
"""

import argparse
import copy
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from record import record
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from drawn_stages import Case, model_cases, stage_cases
from lean_stages import STAGES, Stem, register_small_backbones
from support.comparison import magnitude
from support.lean_equals_plain import Steps, batch_norms, run_steps
from support.operator_suite import instruction_set, threads

#: Errors that are never held against a dtype, relative to the largest element.
_FLOORS = {torch.float64: 1e-9, torch.float32: 16 * torch.finfo(torch.float32).eps}

#: How much farther lean may be than plain PyTorch, in either layout or with numbers moved by a unit in the last place.
_TIMES = {torch.float64: 30.0, torch.float32: 4.0}

#: A gradient this much smaller than the largest one is compared as if it were of this size: it has cancelled.
_CANCELLED = 1e-3

#: Of the maximum of a pooling, of the largest activation: below it, rounding may choose another pixel.
_LEAST_LEAD = 4e-6

#: Of the largest gradient: where plain PyTorch's own are off by more, gradients are what rounding makes of zeros. Every
#: batch norm of a constant channel multiplies rounding by 1 / sqrt(eps), which is 316.
_LOST = 1e-2

#: What happens to a case that plain PyTorch refuses.
_REFUSALS = (ValueError, RuntimeError)

_seen: Counter[str] = Counter()


def equal_to_plain(case: Case) -> None:
    """Outputs, gradients, statistics of lean are those of plain PyTorch in float64, within its own rounding.

    That is what plain PyTorch differs by in channels_last, or when its numbers move by a unit in the last place. Both
    refuse the same cases; inputs stay as they are; a second run gives the same bits. Gradients that rounding decides,
    in plain PyTorch too, are not compared.

    Raises:
        AssertionError: something differs.
    """
    module, steps = case.module(), case.inputs()
    try:
        plain = run_steps(copy.deepcopy(module), case.plain(), steps)
    except _REFUSALS:
        _assert_refused(case, module, steps)
        return
    before = [[x.detach().clone() for x in step] for step in steps]
    with threads(case.threads), instruction_set(case.instruction_set):
        lean = run_steps(copy.deepcopy(module), case.lean(), steps)
        again = run_steps(copy.deepcopy(module), case.lean(), steps)
    for step, copies in zip(steps, before):
        assert all(map(_same_bits, step, copies)), "inputs have changed"
    assert lean.counters == plain.counters, "num_batches_tracked differ"
    assert lean.floats.keys() == plain.floats.keys(), lean.floats.keys() ^ plain.floats.keys()
    for name in lean.floats:
        assert _same_bits(lean.floats[name], again.floats[name]), f"{name}: a second run gives other bits"
    exact = plain if case.dtype == torch.float64 else _in_double(module, case, steps, moved=0)
    others = [_in_double(module, case, steps, moved=number) for number in (1, 2, 3)]
    if case.dtype == torch.float32:
        others.append(_channels_last(module, case, steps))
    own = {
        name: max(_error(each.floats[name], exact.floats[name]) for each in (plain, *others)) for name in exact.floats
    }
    gradients = [name for name in exact.floats if "gradient" in name]
    largest = max((magnitude(exact.floats[name]) for name in gradients), default=0.0)
    lost = any(own[name] > _LOST * largest > 0.0 for name in gradients)
    luck = (lost and case.dtype == torch.float32) or _pooling_is_luck(module, case, steps)
    for name, expected in exact.floats.items():
        if luck and name in gradients:
            continue
        cancelled = 1.0 if case.dtype == torch.float32 else _CANCELLED
        scale = max(magnitude(expected), cancelled * largest if name in gradients else 0.0)
        allowed = _FLOORS[case.dtype] * scale + _TIMES[case.dtype] * own[name]
        error = _error(lean.floats[name], expected)
        assert error <= allowed, f"{name} is off by {error:.3g}, {allowed:.3g} is allowed, of numbers of {scale:.3g}"
    _seen[f"{case.name}, compared" + (" without gradients" if luck else "")] += 1


def not_finite(case: Case, value: float, place: str, where: float) -> None:
    """NaN and infinities reach in lean what they reach in plain PyTorch, and not much else.

    One element of the last input, of a convolution or of a batch norm is `value`; of a batch norm it is NaN, since what
    an infinite gamma or statistic gives depends on the order of operations, in plain PyTorch on the layout. Where plain
    PyTorch's results are not finite, lean's must not be. Of outputs, what else is not finite must lie within the reach
    of Winograd's tiles of what a NaN in the same place reaches, and what is finite in both must be equal.

    Raises:
        AssertionError: it is not so.
    """
    module, (step,) = case.module(), case.inputs()
    value = torch.nan if place == "batch norm" else value
    results = []
    for way, number in (("lean", value), ("plain", value), ("plain", torch.nan)):
        changed, inputs = copy.deepcopy(module), [x.detach().clone().requires_grad_() for x in step]
        _set_one(changed, inputs, place, where, number)
        forward = case.lean() if way == "lean" else _plain_where_read(case)
        try:
            with threads(case.threads), instruction_set(case.instruction_set):
                results.append(run_steps(changed, forward, [inputs]))
        except _REFUSALS:
            return
    lean, plain, of_nan = results
    for name, expected in plain.floats.items():
        found = lean.floats[name]
        if "norm" in name and STAGES[case.name].picks and abs(value) == torch.inf:
            continue  # plain PyTorch multiplies infinities that are not the maximum by zeros
        if "gradient" in name and found.dim() == 4:
            # Plain PyTorch also multiplies by it the zeros of padding.
            found, expected = (each.sum(dim=(2, 3)) for each in (found, expected))
        lost = int((found.isfinite() & ~expected.isfinite()).sum())
        assert lost == 0, f"{name}: {lost} numbers are finite that are not in plain PyTorch"
        if "output" in name:
            _assert_near_only(found, expected, of_nan.floats[name], STAGES[case.name].reach, name)
    _seen[f"{case.name}, not finite"] += 1


def _plain_where_read(case: Case) -> Callable[..., Tensor | Sequence[Tensor]]:
    """Plain PyTorch without the pixels that pooling leaves out, which it would multiply by zeros in backward.

    Training batch norms read them: there it is plain PyTorch as it is.
    """
    plain = case.plain()
    if case.mode == "train" or not STAGES[case.name].drops_odd:
        return plain

    def forward(module: nn.Module, x: Tensor) -> Tensor | Sequence[Tensor]:
        height, width = (max(1, size // 2 * 2) for size in x.shape[2:])
        return plain(module, x[..., :height, :width])

    return forward


def _set_one(module: nn.Module, inputs: list[Tensor], place: str, where: float, number: float) -> None:
    """Puts `number` into an element: `where` in [0, 1) says which."""
    norms = [
        each for norm in batch_norms(module) for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    ]
    convolutions = [each for child in module.modules() if isinstance(child, nn.Conv2d) for each in child.parameters()]
    tensors = {"input": inputs[-1:], "convolution": convolutions, "batch norm": norms}[place]
    with torch.no_grad():
        chosen = tensors[int(where * len(tensors))]
        index = torch.unravel_index(torch.tensor(int(where * 7919 % 1 * chosen.numel())), chosen.shape)
        chosen[index] = number


def _assert_near_only(found: Tensor, expected: Tensor, of_nan: Tensor, reach: int, name: str) -> None:
    """Checks that what is not finite in `found` is near what is not finite in `of_nan`, and the rest equal."""
    near = F.max_pool2d((~of_nan.isfinite()).double(), 2 * reach + 1, stride=1, padding=reach) if reach else None
    if near is None:
        allowed = ~of_nan.isfinite()
    else:
        # A tile is NaN in all channels that its filters write.
        allowed = (near.amax(dim=1, keepdim=True) > 0).expand_as(found)
    farther = int((~found.isfinite() & ~allowed).sum())
    assert farther == 0, f"{name}: {farther} numbers are not finite, farther than {reach} pixels from those of NaN"
    both = found.isfinite() & expected.isfinite() & ~allowed
    error = (found - expected)[both].abs()
    largest = error.amax().item() if error.numel() else 0.0
    assert largest <= 1e-9 * max(1.0, magnitude(expected)), f"{name}: a finite number is off by {largest:.3g}"


def _assert_refused(case: Case, module: nn.Module, steps: list[list[Tensor]]) -> None:
    try:
        run_steps(copy.deepcopy(module), case.lean(), steps)
    except _REFUSALS:
        _seen[f"{case.name}, refused"] += 1
        return
    raise AssertionError("plain PyTorch refuses what lean computes")


def _in_double(module: nn.Module, case: Case, steps: list[list[Tensor]], *, moved: int) -> Steps:
    """Plain steps in float64. `moved`, unless 0, draws what numbers differ by: a unit in the case's last place."""
    wide = copy.deepcopy(module).double()
    inputs = [[x.detach().double().clone(memory_format=torch.contiguous_format) for x in step] for step in steps]
    if moved:
        generator, unit = torch.Generator().manual_seed(moved), torch.finfo(case.dtype).eps
        with torch.no_grad():
            for tensor in [*wide.parameters(), *(x for step in inputs for x in step)]:
                shares = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(tensor * (1.0 + unit * (2.0 * shares - 1.0)))
    wanted = [[x.requires_grad_() for x in step] for step in inputs]
    return run_steps(wide, case.plain(), wanted)


def _pooling_is_luck(module: nn.Module, case: Case, steps: list[list[Tensor]]) -> bool:
    """Whether two pixels of a window of the stem's pooling differ by little more than rounding, in float32."""
    if case.dtype == torch.float64 or not isinstance(module, Stem):
        return False
    wide = copy.deepcopy(module).double()
    return any(wide.least_lead(images.detach().double()) < _LEAST_LEAD for (images,) in steps)


def _channels_last(module: nn.Module, case: Case, steps: list[list[Tensor]]) -> Steps:
    """Plain steps whose maps and weights have lean's layout, in which plain PyTorch sums in another order."""
    layout = torch.channels_last
    inputs = [[x.detach().contiguous(memory_format=layout).requires_grad_() for x in step] for step in steps]
    return run_steps(copy.deepcopy(module).to(memory_format=layout), case.plain(), inputs)


def _error(found: Tensor, expected: Tensor) -> float:
    """Largest difference; 0 where both are the same infinity or NaN, infinite where only one is finite."""
    found, expected = found.detach().double(), expected.detach().double()
    same = (found == expected) | (found.isnan() & expected.isnan())
    errors = (found - expected).abs().nan_to_num(torch.inf).masked_fill(same, 0.0)
    return errors.amax().item() if errors.numel() else 0.0


def _same_bits(found: Tensor, expected: Tensor) -> bool:
    kind = {4: torch.int32, 8: torch.int64}[found.element_size()]
    return torch.equal(found.detach().contiguous().view(kind), expected.detach().contiguous().view(kind))


def _fixed_norms() -> dict[str, st.SearchStrategy]:
    """Options of cases in which no statistics carry what is not finite everywhere, and of some in which they do."""
    return {
        "numbers": st.just("normal"),
        "layout": st.just("channels_last"),
        "norms": st.none(),
        "mode": st.sampled_from(("eval", "frozen", "frozen", "train")),
        "steps": st.just(1),
    }


#: Of each property: what is drawn, the share of the examples, the test.
PROPERTIES: dict[str, tuple[dict[str, st.SearchStrategy], float, Callable[..., None]]] = {
    "stages-float64": ({"case": stage_cases(torch.float64)}, 1.0, equal_to_plain),
    "stages-float32": ({"case": stage_cases(torch.float32)}, 1.0, equal_to_plain),
    "models-float64": ({"case": model_cases(torch.float64, steps=st.just(1))}, 0.1, equal_to_plain),
    "not-finite": (
        {
            "case": stage_cases(torch.float64, **_fixed_norms()),
            "value": st.sampled_from((torch.nan, torch.inf, -torch.inf)),
            "place": st.sampled_from(("input", "convolution", "batch norm")),
            "where": st.floats(0, 1, exclude_max=True),
        },
        1.0,
        not_finite,
    ),
}


def search(name: str, examples: int, seed: int) -> str | None:
    """Runs a property on `examples` cases; returns what failed, with the smallest case, or None."""
    drawn, share, test = PROPERTIES[name]
    run = hypothesis.settings(
        max_examples=max(1, round(share * examples)),
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )(hypothesis.seed(seed)(hypothesis.given(**drawn)(test)))
    try:
        run()
    except Exception as error:
        failures = getattr(error, "exceptions", [error])  # several are a group
        lines = [[f"{type(each).__name__}: {each}", *getattr(each, "__notes__", [])] for each in failures]
        return "\n".join(line for each in lines for line in each)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--examples", type=int, default=1000, help="of each property of stages; of models a tenth (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default: 0)")
    parser.add_argument("--only", choices=PROPERTIES, action="append", help="this property alone; may be repeated")
    parser.add_argument("--record", action="store_true", help="write the result, see checks/README.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    register_small_backbones()
    started, findings = time.process_time(), {}
    for name in options.only or PROPERTIES:
        finding = search(name, options.examples, options.seed)
        print(f"{name}: {finding or 'holds'}", flush=True)
        if finding is not None:
            findings[name] = finding
    if options.record:
        record(
            "numerics",
            claim="Lean stages and models compute what plain PyTorch does, on edge cases of shapes and numbers too",
            found=f"{sum(_seen.values())} cases, seed {options.seed}: {len(findings)} findings",
            figures={
                "examples": options.examples,
                "seed": options.seed,
                "cases": dict(sorted(_seen.items())),
                "findings": findings,
                "cpu_seconds": round(time.process_time() - started, 1),
            },
        )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
