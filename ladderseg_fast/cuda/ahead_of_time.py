"""Images that were compiled when the package was built, and the devices that they run on."""

import json
from dataclasses import dataclass
from pathlib import Path

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """Record of what nvcc (such as "13.0.88") made: machine code and PTX for architectures such as 86, from these
    sources.

    sources is their kernel_sources.digest.
    """

    nvcc: str
    architectures: tuple[int, ...]
    ptx: tuple[int, ...]
    sources: str

    @property
    def cuda(self) -> tuple[int, int]:
        """CUDA version of the images: (13, 0)."""
        major, minor = self.nvcc.split(".")[:2]
        return int(major), int(minor)

    def obstacle(self, architecture: tuple[int, int], driver_version: int | None) -> str | None:
        """Reason why the images do not run on a device of compute capability `architecture`; None if they do.

        driver_version is that of cuDriverGetVersion: 12040 is 12.4. None means a driver that is new enough.

        Machine code runs on devices of its major and no smaller minor version, with a driver of nvcc's major version.
        PTX runs on every newer device, with a driver not older than nvcc, because the driver compiles it. Source: CUDA
        programming guide, "Binary compatibility", "PTX compatibility"; CUDA compatibility guide.
        """
        driver = (driver_version // 1000, driver_version % 1000 // 10) if driver_version is not None else self.cuda
        if driver[0] < self.cuda[0]:
            return f"they are of CUDA {self.cuda[0]}, and the driver is one for CUDA {driver[0]}.{driver[1]}"
        major, minor = architecture
        if any(known // 10 == major and known % 10 <= minor for known in self.architectures):
            return None
        if any(known <= 10 * major + minor for known in self.ptx):
            if driver >= self.cuda:
                return None
            version = f"{self.cuda[0]}.{self.cuda[1]}"
            return f"their PTX is of CUDA {version}, and the driver is one for CUDA {driver[0]}.{driver[1]}"
        return f"they are for {self.devices}"

    @property
    def devices(self) -> str:
        """Architectures as text, such as "sm_80 sm_90, PTX of compute_90"."""
        code = " ".join(f"sm_{number}" for number in self.architectures)
        ptx = " ".join(f"compute_{number}" for number in self.ptx)
        return ", ".join(filter(None, [code, f"PTX of {ptx}" if ptx else ""]))


def read_manifest(directory: Path) -> Manifest | None:
    """Manifest of the images in `directory`, or None if there are no images."""
    try:
        facts = json.loads((directory / MANIFEST).read_text())
    except FileNotFoundError:
        return None
    return Manifest(facts["nvcc"], tuple(facts["architectures"]), tuple(facts["ptx"]), facts["sources"])
