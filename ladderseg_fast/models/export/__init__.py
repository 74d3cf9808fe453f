"""Models as graphs of standard operators that other programs run: ONNX files."""

from .images import Pixels
from .onnx_file import check_packages, write_onnx
from .outputs import OUTPUTS, check_output

__all__ = ["OUTPUTS", "Pixels", "check_packages", "check_output", "write_onnx"]
