"""Makes the tables of measurements in the documents from the files in benchmarks/results.

A table stands between <!-- table: NAME --> and <!-- end -->; nobody types it. `python benchmarks/tables.py` replaces
all of them. Each shows the latest results of every device that it can, with the revision that was measured.
"""

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from alternatives import LEAN_LOSS
from on_device_tasks import DTYPES
from prediction_methods import LEAN_BFLOAT16, ONNXRUNTIME
from report import markdown_table, network
from results_file import FOLDER, Measurement, Results

ROOT = Path(__file__).parents[1]

DOCUMENTS = ("README.md", "docs/convert.md", "docs/memory.md", "docs/prediction.md", "docs/roofline.md")

#: Order of the rows.
METHODS = (
    *("plain", "plain-lean-loss", "compile", "compile-lean-loss"),
    *("checkpoint-bottleneck", "checkpoint-layer", "checkpoint-layer-lean-loss", ONNXRUNTIME, "lean", LEAN_BFLOAT16),
)

#: Those that compute leanly.
_LEAN = ("lean", LEAN_BFLOAT16)

#: The model of the tables of CPU steps.
_MODEL = "ladder_densenet121"

#: Kernels with less than this share of the time in every column are put together.
_LEAST_SHARE = 0.015

_MARKED = re.compile(r"(?<=<!-- table: )([\w ]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
_END = re.compile(r"_(\d+)$")

#: Name of an operator's kernel: the operator, its variants, the type of its maps.
_OUR_KERNEL = re.compile(r"([a-z0-9_]+?)(?:_tensor|_narrow)*_(?:float16|float32)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; the exit status is 1 if a table is old")
    options = parser.parse_args()
    old = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text()
        if filled(text) != text:
            old.append(name)
            if not options.check:
                path.write_text(filled(text))
    print("\n".join(old))
    return 1 if options.check and old else 0


def filled(text: str) -> str:
    """The document with all its tables made anew.

    Raises:
        KeyError: it has a mark for a table that does not exist.
    """
    return _MARKED.sub(lambda mark: f"{mark[1]}{mark[2]}{table(mark[1])}\n", text)


def table(name: str) -> str:
    """A table of TABLES for each device, of its latest file that has some of it, with what was measured above it."""
    sections: dict[str, str] = {}
    on_cpu = name.startswith("cpu")
    for path, results in all_results():
        device = results.device["name"]
        if device in sections or ("capability" in results.device) == on_cpu:
            continue
        rows = TABLES[name](results)
        if len(rows) > 1:
            sections[device] = f"{_heading(path, results)}\n\n{markdown_table(rows)}\n"
    return "\n" + "\n".join(sections.values())


def all_results() -> list[tuple[Path, Results]]:
    """All files of results, the latest first."""

    def age(item: tuple[Path, Results]) -> tuple[str, int]:
        number = _END.search(item[0].stem)
        return item[1].date or "", int(number[1]) if number else 1

    return sorted(((path, Results.load(path)) for path in sorted(FOLDER.glob("*.json"))), key=age, reverse=True)


def steps(results: Results) -> list[list[str]]:
    """Time and memory of a step by method and type."""
    rows = [[_step_of(results), *DTYPES]]
    for method in METHODS:
        cells = [_step_cell(results, method, dtype) for dtype in DTYPES]
        if any(cells):
            rows.append([f"**{method}**" if method == "lean" else method, *cells])
    alone = _totals(results, "lean")
    if any(alone):
        rows.append(["lean's kernels alone", *(_time(each) for each in alone)])
    ratios = [_ratio(results, dtype) for dtype in DTYPES]
    if any(ratios):
        rows.append(["lean / the fastest other", *ratios])
    return rows


def cpu_steps(results: Results) -> list[list[str]]:
    """Memory and time of LDN-121's steps and predictions by method."""
    return _cpu_methods(results, {"step": "a step of {} x {}", "prediction": "a prediction of {} x {}"})


def cpu_predictions(results: Results) -> list[list[str]]:
    """Memory and time of LDN-121's predictions, images to labels, by method."""
    return _cpu_methods(results, {"inference": "{} x {}"})


def _cpu_methods(results: Results, kinds: Mapping[str, str]) -> list[list[str]]:
    """Memory and time by method; columns are what was measured, in that order, named by the kinds' texts."""
    of_model = (each for each in results.measurements if each.options.get("model") == _MODEL)
    measured = [each for each in of_model if each.kind in kinds and each.result]
    columns = list(dict.fromkeys((each.kind, each.options["batch"], each.options["size"]) for each in measured))
    rows = [["", *(kinds[kind].format(batch, size) for kind, batch, size in columns)]]
    found: dict[tuple[str, str], dict[tuple[str, int, str], Measurement]] = {}
    for each in measured:
        key = each.options["method"], each.options.get("allocator", "")
        found.setdefault(key, {})[each.kind, each.options["batch"], each.options["size"]] = each
    for method, allocator in sorted(found, key=lambda key: (METHODS.index(key[0]), key[1])):
        name = f"**{method}**" if method in _LEAN else f"{method}{f', {allocator}' if allocator else ''}"
        rows.append([name, *(_cpu_cell(found[method, allocator].get(column)) for column in columns)])
    ratios = [_cpu_ratios({key: each[column] for key, each in found.items() if column in each}) for column in columns]
    return [*rows, ["lean / the best other", *ratios]] if any(ratios) else rows


def _cpu_cell(measurement: Measurement | None) -> str:
    if measurement is None:
        return ""
    result = measurement.result
    return f"{result['peak_resident_bytes'] / 1e9:.2f} GB, {result['median_ms'] / 1e3:.2f} s"


def _cpu_ratios(found: dict[tuple[str, str], Measurement], ours: str = "lean") -> str:
    """Memory of our method by the least of the others, and time by the fastest's; empty if there is nothing else."""
    lean = found.get((ours, ""))
    others = [each.result for (method, _), each in found.items() if method not in (ours, *_LEAN)]
    if lean is None or not others:
        return ""
    keys = "peak_resident_bytes", "median_ms"
    memory, time = (lean.result[key] / min(other[key] for other in others) for key in keys)
    return f"{memory:.2f}, {time:.2f}"


def converted(results: Results) -> list[list[str]]:
    """Memory and time of training steps of other libraries' networks; of each method with the faster allocator."""
    found: dict[str, dict[str, Measurement]] = {}
    for each in results.of_kind("converted step"):
        options = each.options
        methods = found.setdefault(f"{options['network']}, {options['batch']} x {options['size']}", {})
        known = methods.get(options["method"])
        if known is None or each.result["median_ms"] < known.result["median_ms"]:
            methods[options["method"]] = each
    names = "plain", "checkpoint", "converted"
    rows = [["a step of", *names, "converted / plain"]]
    for network_name, methods in found.items():
        cells = [_cpu_cell(methods.get(name)) for name in names]
        compared = {(name, ""): methods[name] for name in ("plain", "converted") if name in methods}
        rows.append([network_name, *cells, _cpu_ratios(compared, ours="converted")])
    return rows


def kernels(results: Results) -> list[list[str]]:
    """Milliseconds of a step's kernels by operator and type."""
    columns = {dtype: _by_operator(results, dtype) for dtype in DTYPES}
    names = dict.fromkeys(name for column in columns.values() for name in column)
    totals = {dtype: sum(column.values()) for dtype, column in columns.items()}

    def matters(name: str) -> bool:
        return any(columns[d].get(name, 0.0) > _LEAST_SHARE * totals[d] for d in DTYPES)

    shown = sorted(filter(matters, names), key=lambda name: -sum(column.get(name, 0.0) for column in columns.values()))
    rows = [["lean, ms a step", *DTYPES]]
    rows += [[name, *(_tenths(columns[dtype].get(name)) for dtype in DTYPES)] for name in shown]
    others = [totals[d] - sum(columns[d].get(name, 0.0) for name in shown) for d in DTYPES]
    rows.append([f"{len(names) - len(shown)} others", *map(_tenths, others)])
    variants = dict.fromkeys(each.options.get("variant") for each in results.of_kind("kernels", method="lean"))
    for variant in variants:
        rows.append([f"all, {variant}" if variant else "all", *map(_tenths, _totals(results, "lean", variant))])
    for method in ("plain-lean-loss", "plain"):
        found = _totals(results, method)
        if any(found):
            rows.append([f"all of {method}", *map(_tenths, found)])
    return rows if any(totals.values()) else rows[:1]


def memory(results: Results) -> list[list[str]]:
    """Predicted and measured memory of training steps: given out by torch's allocator, and reserved, if it was."""
    found = [each for each in results.of_kind("memory") if "measured_bytes" in each.result]
    pairs = {"": ("predicted_bytes", "measured_bytes")}
    if any("measured_reserved_bytes" in each.result for each in found):
        pairs["reserved, "] = "predicted_reserved_bytes", "measured_reserved_bytes"
    rows = [["step", *(f"{what}{word}" for what in pairs for word in ("predicted", "measured", "error"))]]
    for each in found:
        options = each.options
        step = f"{network(options['model'])}, {options['batch']} x {options['size']}, {options['dtype']}"
        optimizer = "" if options["optimizer"] == "none" else f", {options['optimizer'].capitalize()}"
        cells = [cell for pair in pairs.values() for cell in _compared(*(each.result.get(key) for key in pair))]
        rows.append([step + optimizer, *cells])
    return rows


TABLES: dict[str, Callable[[Results], list[list[str]]]] = {
    "cpu steps": cpu_steps,
    "cpu predictions": cpu_predictions,
    "cpu converted": converted,
    "gpu steps": steps,
    "gpu kernels": kernels,
    "gpu memory": memory,
}


def _compared(predicted: int | None, measured: int | None) -> list[str]:
    """Cells with both numbers of bytes and the error of the prediction."""
    if predicted is None or measured is None:
        return ["", "", ""]
    return [f"{predicted / 1e6:.1f} MB", f"{measured / 1e6:.1f} MB", f"{100 * (predicted / measured - 1):+.1f} %"]


def _heading(path: Path, results: Results) -> str:
    software = results.software
    what = [f"{results.device['threads']} threads"] if "threads" in results.device else []
    what += [f"revision {software['revision'][:7]}", f"torch {software['torch']}"]
    what += [f"{name} {software[key]}" for key, name in (("cuda", "CUDA"), ("driver", "driver")) if software.get(key)]
    return f"{results.device['name']}, {', '.join(what)} (`{path.relative_to(ROOT)}`):"


def _step_of(results: Results) -> str:
    options = next((each.options for each in results.of_kind("step")), None)
    return "" if options is None else f"{network(options['model'])}, {options['batch']} x {options['size']}"


def _own(measurements: Iterable[Measurement], variant: str | None = None) -> Iterator[Measurement]:
    """Measurements of one variant; None: of the revision as it is."""
    return (each for each in measurements if each.options.get("variant") == variant)


def _milliseconds(measurements: Iterable[Measurement], key: str = "median_ms") -> float | None:
    """Median over the measurements of the same; None if there is none."""
    times = [each.result[key] for each in measurements]
    return statistics.median(times) if times else None


def _totals(results: Results, method: str, variant: str | None = None) -> list[float | None]:
    """Milliseconds of all kernels of a step, by type."""
    groups = [_own(results.of_kind("kernels", method=method, dtype=dtype), variant) for dtype in DTYPES]
    return [_milliseconds(group, "total_ms") for group in groups]


def _step_time(results: Results, method: str, dtype: str) -> float | None:
    """The better time, with or without cudnn.benchmark."""
    groups: dict[bool, list[Measurement]] = {}
    for each in _own(results.of_kind("step", method=method, dtype=dtype)):
        if "allocator" not in each.options:
            groups.setdefault(bool(each.options.get("cudnn_benchmark")), []).append(each)
    return min((_milliseconds(group) for group in groups.values()), default=None)


def _step_cell(results: Results, method: str, dtype: str) -> str:
    time = _step_time(results, method, dtype)
    if time is None:
        return ""
    peaks = [
        each.result["peak_allocated_bytes"]
        for each in _own(results.of_kind("step", method=method, dtype=dtype))
        if "peak_allocated_bytes" in each.result and not each.options.get("cudnn_benchmark")
    ]
    return _time(time) + (f", {statistics.median(peaks) / 1e9:.2f} GB" if peaks else "")


def _ratio(results: Results, dtype: str) -> str:
    """Time of lean by that of the fastest other method; empty if none of those with our loss was measured."""
    times = {method: _step_time(results, method, dtype) for method in METHODS}
    lean, known = times["lean"], {method: time for method, time in times.items() if time is not None}
    if lean is None or not any(method.endswith(LEAN_LOSS) for method in known):
        return ""
    return f"{lean / min(time for method, time in known.items() if method != 'lean'):.2f}"


def _by_operator(results: Results, dtype: str) -> dict[str, float]:
    """Milliseconds of lean's kernels, those of one operator and its variants together."""
    found = list(_own(results.of_kind("kernels", method="lean", dtype=dtype)))
    times: dict[str, float] = {}
    for each in found:
        for name, _, milliseconds in each.result["kernels"]:
            ours = _OUR_KERNEL.fullmatch(name)
            operator = ours[1] if ours else "torch's"
            times[operator] = times.get(operator, 0.0) + milliseconds / len(found)
    return times


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return ""
    return f"{milliseconds:.1f} ms" if milliseconds < 100 else f"{milliseconds:.0f} ms"


def _tenths(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.1f}"


if __name__ == "__main__":
    sys.exit(main())
