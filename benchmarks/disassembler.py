"""Machine code of kernels as text, by nvdisasm: from the search path, or from a package of the Python environment."""

import functools
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path


class DisassemblerNotFound(RuntimeError):
    """Error: no nvdisasm, or none that knows the architecture."""


@functools.lru_cache(maxsize=1)
def candidates() -> tuple[str, ...]:
    """Programs to try, each once: a newer one may know no old architecture."""
    packages = Path(sysconfig.get_path("purelib"))
    patterns = ("nvidia/cu*/bin/nvdisasm", "nvidia/cuda_nvdisasm/bin/nvdisasm")
    found = [shutil.which("nvdisasm"), *(str(path) for one in patterns for path in sorted(packages.glob(one)))]
    return tuple(dict.fromkeys(path for path in found if path is not None and os.access(path, os.X_OK)))


def disassemble(image: bytes, architecture: int) -> str:
    """SASS of a cubin.

    Raises:
        DisassemblerNotFound: nothing here reads this architecture.
    """
    reasons = []
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(image)
        file.flush()
        for program in candidates():
            result = subprocess.run([program, "-c", file.name], capture_output=True, text=True)
            if result.returncode == 0:
                return result.stdout
            reasons.append(f"{program}: {result.stderr.strip()}")
    if not reasons:
        reasons.append('none is on PATH or in the packages: pip install nvidia-cuda-nvdisasm, or pip install ".[test]"')
    raise DisassemblerNotFound(f"no nvdisasm for sm_{architecture}: {'; '.join(reasons)}")
