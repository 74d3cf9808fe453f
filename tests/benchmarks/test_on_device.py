"""benchmarks/on_device.py: order, time, failures and files with a runner that runs nothing, and a run on the CPU."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("on_device", "on_device_step", "on_device_tasks", "results_file", "subprocess_step")


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})


class FakeDevice:
    """Runs every task in the same time, on a clock of its own; notes the tasks and their limits."""

    def __init__(self, modules: SimpleNamespace, seconds: float, failing: tuple[str, ...] = ()) -> None:
        self._modules, self._seconds, self._failing = modules, seconds, failing
        self.now = 1000.0
        self.ran: list[tuple[str, float]] = []

    def clock(self) -> float:
        return self.now

    def run(self, task: object, limit: float) -> dict:
        self.ran.append((task.name, limit))
        self.now += min(self._seconds, limit)
        if task.name in self._failing:
            raise self._modules.subprocess_step.StepFailed("out of memory")
        if self._seconds > limit:
            raise self._modules.subprocess_step.StepFailed(f"not done within {limit:.0f} s")
        return {"median_ms": 1.0}


def measured(modules: SimpleNamespace, device: FakeDevice, todo: list, path: Path, seconds: float) -> ModuleType:
    results = modules.results_file.Results({"name": "NVIDIA T4"}, {"revision": "1"}, "2030-12-31")
    modules.on_device.measure_all(todo, results, path, device.run, device.now + seconds, device.clock)
    return results


def all_tasks(modules: SimpleNamespace, minutes: float = 4.0) -> list:
    return modules.on_device_tasks.tasks("ladder_densenet121", "1024x2048", 2, "cuda", 60.0 * minutes)


def test_the_most_valuable_comes_first_and_the_rest_is_left_out(modules: SimpleNamespace, tmp_path: Path) -> None:
    todo, device = all_tasks(modules), FakeDevice(modules, seconds=12.0)
    results = measured(modules, device, todo, tmp_path / "t4.json", seconds=120.0)
    assert [each.name for each in results.measurements] == [task.name for task in todo]
    done = [each for each in results.measurements if each.result is not None]
    left_out = [each for each in results.measurements if each.result is None]
    assert [each.name for each in done] == [task.name for task in todo[: len(done)]]
    assert [name for name, _ in device.ran] == [each.name for each in done]
    assert len(done) >= 8 and device.now <= 1000.0 + 120.0 + 12.0
    assert all(each.error.startswith("left out: ") for each in left_out)
    assert not any(map(modules.on_device.failed, results.measurements))
    assert [task.kind for task in todo[:4]] == ["tests", "step", "step", "kernels"]
    assert [task.options["method"] for task in todo[1:3]] == ["lean", "plain-lean-loss"]


def test_a_later_task_that_needs_less_time_is_run(modules: SimpleNamespace, tmp_path: Path) -> None:
    make = modules.on_device_tasks.Task
    todo = [make("long", "step", {}, least_s=100.0), make("short", "step", {}, least_s=5.0)]
    device = FakeDevice(modules, seconds=3.0)
    long, short = measured(modules, device, todo, tmp_path / "t4.json", seconds=20.0).measurements
    assert long.error == "left out: 20 s were left of the 100 that it needs"
    assert (short.result, short.wall_s) == ({"median_ms": 1.0}, 3.0)


def test_no_task_may_take_more_than_its_share_or_what_is_left(modules: SimpleNamespace, tmp_path: Path) -> None:
    todo, device = all_tasks(modules), FakeDevice(modules, seconds=1e9)
    results = measured(modules, device, todo, tmp_path / "t4.json", seconds=240.0)
    assert device.ran[0] == ("tests marked cuda", pytest.approx(72.0))
    assert device.ran[1] == ("step lean float16", 60.0)
    assert device.now == pytest.approx(1240.0, abs=8.0)
    assert results.measurements[1].error == "not done within 60 s"
    assert modules.on_device.failed(results.measurements[1])


def test_what_fails_is_written_and_does_not_stop_the_others(modules: SimpleNamespace, tmp_path: Path) -> None:
    todo = all_tasks(modules)[:4]
    device = FakeDevice(modules, seconds=1.0, failing=("step lean float16",))
    path = tmp_path / "t4.json"
    measured(modules, device, todo, path, seconds=240.0)
    found = modules.results_file.Results.load(path).measurements
    assert [each.error for each in found] == [None, "out of memory", None, None]
    assert [modules.on_device.failed(each) for each in found] == [False, True, False, False]


def test_the_file_is_complete_after_every_measurement(modules: SimpleNamespace, tmp_path: Path) -> None:
    """Whatever ends the run, what was measured before is there."""
    todo, path = all_tasks(modules)[:3], tmp_path / "t4.json"
    device, counts = FakeDevice(modules, seconds=1.0), []

    def run(task: object, limit: float) -> dict:
        counts.append(len(modules.results_file.Results.load(path).measurements) if path.exists() else 0)
        if len(counts) == 3:
            raise KeyboardInterrupt
        return device.run(task, limit)

    results = modules.results_file.Results({}, {}, None)
    with pytest.raises(KeyboardInterrupt):
        modules.on_device.measure_all(todo, results, path, run, device.now + 100.0, device.clock)
    assert counts == [0, 1, 2]
    assert len(modules.results_file.Results.load(path).measurements) == 2


def test_tests_that_fail_are_a_failure(modules: SimpleNamespace) -> None:
    make = modules.results_file.Measurement
    assert modules.on_device.failed(make("tests", "tests", {}, {"passed": 3, "failed": 1}))
    assert not modules.on_device.failed(make("tests", "tests", {}, {"passed": 3, "failed": 0}))


def test_every_kind_of_task_is_known_and_names_are_unique(modules: SimpleNamespace) -> None:
    todo = all_tasks(modules)
    assert {task.kind for task in todo} <= set(modules.on_device_step.KINDS)
    assert len({task.name for task in todo}) == len(todo)
    assert json.loads(json.dumps([task.options for task in todo])) == [task.options for task in todo]


def test_results_of_another_run_are_kept(modules: SimpleNamespace, tmp_path: Path) -> None:
    results = modules.results_file.Results({"name": "NVIDIA T4"}, {}, "2030-12-31")
    names = []
    for _ in range(3):
        path = modules.on_device.free_path(tmp_path, results)
        path.touch()
        names.append(path.name)
    assert names == ["t4_2030-12-31.json", "t4_2030-12-31_2.json", "t4_2030-12-31_3.json"]


def test_a_process_that_takes_too_long_is_killed_with_its_children(modules: SimpleNamespace, tmp_path: Path) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(modules.subprocess_step.StepFailed, match="not done within 3 s"):
        modules.subprocess_step.run_step(str(script), [], timeout=3.0)
    status = Path(f"/proc/{(tmp_path / 'pid').read_text()}/status")
    end = time.monotonic() + 10.0  # a busy machine takes a while to end it
    while status.exists() and "Z (zombie)" not in status.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_counts_of_pytest(modules: SimpleNamespace) -> None:
    output = (
        "FAILED tests/cuda/test_device.py::test_a[cuda] - Boom\n1 failed, 657 passed, 10 skipped in 29.76s (0:00:29)"
    )
    counts = modules.on_device_step._test_counts(subprocess.CompletedProcess([], 1, output, ""))
    assert counts.pop("failures") == ["test_device.py::test_a[cuda]"]
    assert counts == {"passed": 657, "failed": 1, "skipped": 10, "seconds": 29.76}
    with pytest.raises(RuntimeError, match="no summary: 'killed'"):
        modules.on_device_step._test_counts(subprocess.CompletedProcess([], 1, "killed", ""))


FAKE_SANITIZER = """#!/bin/sh
# As compute-sanitizer: --tool NAME COMMAND...
tool=$2; shift 2
"$@"
[ "$tool" = memcheck ] && printf '========= Invalid __global__ read of size 4 bytes\\n'
case $tool in
  memcheck) printf '========= ERROR SUMMARY: 1 error\\n' ;;
  racecheck) printf '========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\\n' ;;
  initcheck) printf '========= ERROR SUMMARY: 0 errors\\n' ;;
esac
"""


def test_compute_sanitizer(modules: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors and hazards count as failures; without a summary, or without the calls' end, there is no result."""
    sanitizer, failed = modules.on_device_step.sanitizer, modules.on_device.failed
    make = modules.results_file.Measurement
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    absent = sanitizer({"tool": "memcheck", "device": "cpu"})
    assert "absent" in absent and not failed(make("a", "sanitizer", {}, absent))

    command = tmp_path / "bin" / "compute-sanitizer"
    command.parent.mkdir()
    command.write_text(FAKE_SANITIZER)
    command.chmod(0o755)
    # The calls themselves take seconds.
    calls = tmp_path / "sanitized_calls.py"
    calls.write_text(f"print({modules.on_device_step.SANITIZED_CALLS_DONE!r})")
    monkeypatch.setattr(modules.on_device_step, "__file__", str(tmp_path / "on_device_step.py"))
    found = sanitizer({"tool": "memcheck", "device": "cpu"})
    assert found == {"failed": 1, "reports": ["Invalid __global__ read of size 4 bytes", "ERROR SUMMARY: 1 error"]}
    assert failed(make("a", "sanitizer", {}, found))
    for tool in ("racecheck", "initcheck"):
        assert sanitizer({"tool": tool, "device": "cpu"}) == {"failed": 0}
    with pytest.raises(RuntimeError, match="no summary"):
        sanitizer({"tool": "synccheck", "device": "cpu"})
    calls.write_text("raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="no summary"):
        sanitizer({"tool": "racecheck", "device": "cpu"})


@pytest.mark.slow
def test_calls_for_compute_sanitizer_run_on_the_cpu() -> None:
    command = [sys.executable, str(BENCHMARKS / "sanitized_calls.py"), "cpu"]
    assert "all calls are done" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_on_the_cpu(tmp_path: Path) -> None:
    """What works there, as a whole."""
    options = ["--device", "cpu", "--size", "64x128", "--out", str(tmp_path), "--minutes", "20", "--revision", "abc"]
    command = [sys.executable, str(BENCHMARKS / "on_device.py"), *options]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(Path(finished.stdout.strip()).read_text())
    assert found["software"]["revision"] == "abc"
    results = {each["name"]: each["result"] for each in found["measurements"]}
    assert results["step plain float32"]["errors"]["float32"]["loss"] < 1e-4
    assert results["prediction plain float32 2 x 64x128"]["checked_against"] == "lean"
    assert results["step lean float32"]["median_ms"] > 0
