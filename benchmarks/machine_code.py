"""Instructions of compiled kernels, from the text of the disassembler (SASS) or from PTX."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instruction:
    """One instruction: opcode with all modifiers ("LDG.E.128"), and operands as text.

    predicate is its guard ("@!P0"), "" without one. target is the label it branches to, None if it does not branch.
    continues says whether the next instruction may follow, paired whether that is issued together with this one.
    """

    opcode: str
    operands: tuple[str, ...] = ()
    predicate: str = ""
    target: str | None = None
    continues: bool = True
    paired: bool = False

    @property
    def name(self) -> str:
        """Opcode without modifiers."""
        return self.opcode.split(".", 1)[0]

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return "integer" if _is_move(self) else _kind(self.opcode)

    @property
    def products(self) -> int:
        """Multiply-adds that a warp does with it."""
        if self.kind == "mma":
            return _matrix_products(self.opcode)
        return {"ffma": 32, "dfma": 32, "hfma2": 64}.get(self.kind, 0) * (2 if self.name == "FFMA2" else 1)

    @property
    def slots(self) -> int:
        """Issue slots that a warp takes for it; an estimate if it is of PTX, which is not what a device executes."""
        return _ptx_slots(self.opcode) if self.opcode[0].islower() else 0 if self.paired else 1

    @property
    def bytes_per_thread(self) -> int:
        """Bytes that a thread moves, for instructions on memory."""
        return _width(self.opcode) if self.kind in _ON_MEMORY else 0


@dataclass
class Function:
    """A kernel's instructions in order; labels by the number of the instruction that follows them."""

    name: str
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


#: Kinds of instructions, in the order of tables. Wide accesses move 8 or 16 bytes per thread, scalar ones less.
KINDS = (
    "mma",
    "ffma",
    "dfma",
    "hfma2",
    "float",
    "convert",
    "load wide",
    "load scalar",
    "async copy",
    "store wide",
    "store scalar",
    "ldsm",
    "lds",
    "sts",
    "local",
    "constant",
    "shuffle",
    "barrier",
    "sync",
    "branch",
    "uniform",
    "integer",
)
#: Those that multiply and add: on tensor cores, and in float32, float64 and pairs of float16.
PRODUCT_KINDS = ("mma", "ffma", "dfma", "hfma2")
_ON_MEMORY = frozenset(
    ("load wide", "load scalar", "async copy", "store wide", "store scalar", "lds", "sts", "ldsm", "local")
)

_SASS_KIND = re.compile(
    r"(?P<mma>[HIDBQO]G?MMA\b|UTC\w*MMA)"
    r"|(?P<ffma>FFMA)"
    r"|(?P<dfma>DFMA)"
    r"|(?P<hfma2>HFMA2)"
    r"|(?P<convert>F2F|F2I|I2F|F2FP|I2FP|HADD2\.F32|FRND)"
    r"|(?P<float>F(ADD|MUL|SETP|SET|SEL|MNMX|CHK|CMP|SWZADD)|D(ADD|MUL|SETP|MNMX)"
    r"|H(ADD2|MUL2|SETP2|MNMX2|SET2)|MUFU|VHMNMX|RRO)"
    r"|(?P<async_copy>LDGSTS|UBLKCP|UTMA)"
    r"|(?P<load_wide>(LDG|LD)\.(\S*\.)?(64|128|256)\b)"
    r"|(?P<load_scalar>(LDG|LD)\b)"
    r"|(?P<store_wide>(STG|ST)\.(\S*\.)?(64|128|256)\b)"
    r"|(?P<store_scalar>(STG|ST|RED|ATOM|ATOMG)\b)"
    r"|(?P<ldsm>LDSM)"
    r"|(?P<lds>LDS\b|ATOMS)"
    r"|(?P<sts>STS|STSM)"
    r"|(?P<local>LDL|STL)"
    r"|(?P<constant>U?LDC)"
    r"|(?P<shuffle>SHFL|REDUX|VOTE|MATCH)"
    r"|(?P<barrier>BAR\b|SYNCS)"
    r"|(?P<sync>WARPSYNC|DEPBAR|LDGDEPBAR|BSSY|BSYNC|BREAK|BMOV|MEMBAR|ERRBAR|CCTL|NANOSLEEP"
    r"|SSY|SYNC|PBK|BRK|PCNT|CONT|ARRIVES|FENCE)"
    r"|(?P<branch>BRA|EXIT|RET|CALL|JMP|BRX|BPT|YIELD)"
    r"|(?P<uniform>U[A-Z0-9]+|R2UR|S2UR)"
    r"|(?P<integer>.)"
)
_PTX_KIND = re.compile(
    r"(?P<mma>mma\.|wmma\.mma)"
    r"|(?P<ffma>fma\.\S*f32)"
    r"|(?P<dfma>fma\.\S*f64)"
    r"|(?P<hfma2>fma\.\S*(f16x2|bf16x2))"
    r"|(?P<convert>cvt\.(\S*\.)?(f16|bf16|tf32|f32|f64)\w*)"
    r"|(?P<float>(add|sub|mul|min|max|neg|abs|div|rcp|sqrt|rsqrt|ex2|lg2|fma|set|setp|selp|testp)"
    r"\.(\S*\.)?b?f(16|32|64)\w*)"
    r"|(?P<async_copy>cp\.async\.c[ag])"
    r"|(?P<load_wide>ld\.(global|volatile\.global)\.(\S*\.)?"
    r"(v2\.[a-z]32|v4\.[a-z]32|v2\.[a-z]64|[a-z]64|v4\.[a-z]16|v8\.[a-z]16))"
    r"|(?P<load_scalar>ld\.(global|volatile\.global))"
    r"|(?P<store_wide>st\.global\.(\S*\.)?(v2\.[a-z]32|v4\.[a-z]32|v2\.[a-z]64|[a-z]64|v4\.[a-z]16|v8\.[a-z]16))"
    r"|(?P<store_scalar>st\.global|red\.|atom\.)"
    r"|(?P<ldsm>ldmatrix)"
    r"|(?P<lds>ld\.shared)"
    r"|(?P<sts>st\.shared)"
    r"|(?P<local>(ld|st)\.local)"
    r"|(?P<constant>ld\.(param|const))"
    r"|(?P<shuffle>shfl|vote|redux|match)"
    r"|(?P<barrier>bar(rier)?\.)"
    r"|(?P<sync>cp\.async|membar|fence)"
    r"|(?P<branch>bra|ret|exit|call|brx|trap)"
    r"|(?P<integer>.)"
)


@functools.cache
def _kind(opcode: str) -> str:
    match = (_PTX_KIND if opcode[0].islower() else _SASS_KIND).match(opcode)
    return next(kind for kind, found in match.groupdict().items() if found is not None).replace("_", " ")


# Two instructions of one issue slot, on devices that have that, are in braces: the first has no semicolon.
_SASS_LINE = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?P<pair>\{?)\s*(?P<text>[^;}]+?)\s*([;}].*)?$")
_SASS_FUNCTION = re.compile(r"\.text\.(\w+):")
_SASS_LABEL = re.compile(r"(\.L_\w+):")
# BRA `(.L_x_1), or SYNC (*"BRANCH_TARGETS .L_x_1"*).
_SASS_TARGET = re.compile(r"`\((\.L_\w+)\)|BRANCH_TARGETS (\.L_\w+)")
# A call of a label is how the compiler jumps over a long way; functions have names that begin with $.
_SASS_BRANCHES = ("BRA", "SYNC", "BRK", "CONT", "CALL")
_GUARD = re.compile(r"(@!?%?\w+)\s+")


def parse_sass(text: str) -> list[Function]:
    """Functions in the output of `nvdisasm -c`."""
    functions: list[Function] = []
    for line in text.splitlines():
        if match := _SASS_FUNCTION.match(line):
            functions.append(Function(match[1]))
        elif functions and (match := _SASS_LABEL.match(line)):
            functions[-1].labels[match[1]] = len(functions[-1].instructions)
        elif functions and (match := _SASS_LINE.match(line)):
            functions[-1].instructions.append(_sass_instruction(match["text"], bool(match["pair"])))
    return functions


def _sass_instruction(text: str, paired: bool) -> Instruction:
    predicate, text = _split_guard(text)
    opcode, _, operands = text.partition(" ")
    parts = tuple(part.strip() for part in operands.split(",")) if operands else ()
    name = opcode.split(".", 1)[0]
    target = None
    # BRA.DIV leaves for threads that are not together, which those of a full warp are.
    if name in _SASS_BRANCHES and not opcode.startswith("BRA.DIV") and (match := _SASS_TARGET.search(operands)):
        target = match[1] or match[2]
    # A branch has its condition in the guard, or in an operand before the label: BRA !P1, `(.L_x_3).
    certain = not predicate and not opcode.startswith(("BRA.DIV", "BRA.U")) and (name != "BRA" or len(parts) == 1)
    leaves = target is not None or name in ("BRA", "EXIT", "RET", "BRX", "JMP")
    return Instruction(opcode, parts, predicate, target, not (certain and leaves), paired)


_PTX_ENTRY = re.compile(r"\.entry\s+(\w+)\s*\(")
_PTX_LABEL = re.compile(r"\s*(\$\w+):")


def parse_ptx(text: str) -> list[Function]:
    """Kernels (.entry) in a PTX module."""
    functions: list[Function] = []
    inside = False
    for line in text.splitlines():
        line = line.split("//", 1)[0]
        if match := _PTX_ENTRY.search(line):
            functions.append(Function(match[1]))
            inside = False
            continue
        if not functions:
            continue
        inside = inside or line.startswith("{")
        if not inside:
            continue
        if match := _PTX_LABEL.match(line):
            functions[-1].labels[match[1]] = len(functions[-1].instructions)
            line = line[match.end() :]
        functions[-1].instructions += _ptx_instructions(line)
    return functions


def _ptx_instructions(line: str) -> Iterator[Instruction]:
    """Instructions of a line; inline assembly may have several, in braces."""
    *statements, _ = line.split(";")
    for statement in statements:
        predicate, text = _split_guard(statement.strip().lstrip("{} \t"))
        if not text or text.startswith("."):
            continue
        opcode, *rest = text.split(None, 1)
        parts = tuple(part.strip() for part in rest[0].split(",")) if rest else ()
        name = opcode.split(".", 1)[0]
        target = parts[0] if name == "bra" else None
        continues = bool(predicate) or name not in ("bra", "ret", "exit", "trap")
        yield Instruction(opcode, parts, predicate, target, continues)


def _split_guard(text: str) -> tuple[str, str]:
    match = _GUARD.match(text)
    return (match[1], text[match.end() :]) if match else ("", text)


def _is_move(instruction: Instruction) -> bool:
    """HFMA2 R1, -RZ, RZ, 0, 0 is how the compiler writes a constant."""
    return instruction.name == "HFMA2" and instruction.operands[1:3] == ("-RZ", "RZ")


#: Operands of other instructions once compiled: constants, parameters, registers that need no copy.
_PTX_FREE = re.compile(r"mov|cvta|ld\.param|cvt\.[us]64\.[us]32|cvt\.u32\.u64")
# A 64-bit integer takes two instructions.
_PTX_DOUBLE = re.compile(r"(?!ld|st)\S*\.[usb]64\b")


def _ptx_slots(opcode: str) -> int:
    return 0 if _PTX_FREE.match(opcode) else 2 if _PTX_DOUBLE.match(opcode) else 1


_SHAPE = re.compile(r"\.m(\d+)n(\d+)k(\d+)")
#: HMMA.16816 is 16 x 8 x 16, HMMA.1688 is 16 x 8 x 8, DMMA.884 is 8 x 8 x 4.
_SASS_SHAPES = {"16816": 2048, "1688": 1024, "1684": 512, "884": 256, "16832": 4096, "8816": 1024}


def _matrix_products(opcode: str) -> int:
    if match := _SHAPE.search(opcode):
        rows, columns, depth = map(int, match.groups())
        return rows * columns * depth
    for modifier in opcode.split("."):
        if modifier in _SASS_SHAPES:
            return _SASS_SHAPES[modifier]
    raise ValueError(f"the shape of {opcode} is not known")


def _width(opcode: str) -> int:
    """Bytes per thread of an instruction on memory."""
    modifiers = opcode.split(".")
    if opcode[0].islower():
        count = next((int(found[1:]) for found in modifiers if re.fullmatch(r"v[248]", found)), 1)
        bits = [int(found[1:]) for found in modifiers if re.fullmatch(r"[bsuf](8|16|32|64|128)", found)]
        return 16 if opcode.startswith("cp.async") else count * (bits[-1] if bits else 32) // 8
    for modifier in modifiers:
        if modifier in ("64", "128", "256"):
            return int(modifier) // 8
        if modifier in ("U8", "S8"):
            return 1
        if modifier in ("U16", "S16"):
            return 2
    return 4
