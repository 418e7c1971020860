"""PTX → C++: every kernel of a PTX file as a function that runs one thread. `python translate.py kernels.ptx`

A table gives each instruction its meaning in C++, over operands a, b, c of the instruction's type, as the PTX ISA
defines it; what C++ has no operator for is in thread.h. An instruction that is not in the table is an error. Registers
hold bits; those that were never written hold 0xCD…, so that reading one shows.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

TYPES = {f"{kind}{bits}": f"std::{sign}int{bits}_t" for kind, sign in zip("ubs", ("u", "u", ""), strict=True)
         for bits in (8, 16, 32, 64)} | {"f32": "float", "pred": "bool"}  # fmt: skip
POISON = {"pred": "true", "f32": "as_float(0xCDCDCDCDu)"}  # of registers; the others are integers
PLACES = {"%tid.x": "thread.tid", "%ntid.x": "thread.ntid", "%ctaid.x": "thread.ctaid", "%nctaid.x": "thread.nctaid"}
INTEGERS = {
    "add": "a + b", "sub": "a - b", "mul.lo": "a * b", "mad.lo": "a * b + c", "div": "a / b", "rem": "a % b",
    "neg": "-a", "clz": "std::countl_zero(a)", "min": "std::min(a, b)", "max": "std::max(a, b)",
    "mul.hi": "high(a, b)", "prmt": "permuted(a, b, c)",
    "and": "a & b", "or": "a | b", "xor": "a ^ b", "not": "~a", "bfe": "field_of(a, b, c)",
}  # fmt: skip
# Without .rn the assembler may contract two operations into one.
FLOATS = {
    "add.rn": "a + b", "sub.rn": "a - b", "mul.rn": "a * b", "div.rn": "a / b", "rcp.rn": "1.0f / a", "neg": "-a",
    "fma.rn": "std::fma(a, b, c)", "min": "least(a, b)", "max": "greatest(a, b)", "abs": "std::fabs(a)",
    "min.NaN": "a != a || b != b ? NAN : least(a, b)", "max.NaN": "a != a || b != b ? NAN : greatest(a, b)",
}  # fmt: skip
PAIRS = {"f16x2": "from_half", "bf16x2": "from_bfloat"}  # types of two numbers in a register
# Of two float16. Rounding to float32 in between is innocent: 24 bits are twice those of float16, and two more.
PAIRED = {"sub.rn.f16x2": "to_half(a - b)"}
PREDICATES = {"and": "a && b", "or": "a || b", "xor": "a != b", "not": "!a"}
COMPARISONS = {  # an ordered comparison with NaN is false
    "eq": "a == b", "lt": "a < b", "le": "a <= b", "gt": "a > b", "ge": "a >= b", "ne": "a < b || a > b",
    "neu": "a != b", "geu": "!(a < b)", "gtu": "!(a <= b)", "leu": "!(a > b)", "ltu": "!(a >= b)",
    "num": "a == a && b == b", "nan": "a != a || b != b",
}  # fmt: skip
CONVERSIONS = {  # of an operand a of the last type
    "rmi.f32.f32": "std::floor(a)", "rzi.s32.f32": "truncated(a)", "rmi.s32.f32": "truncated(std::floor(a))",
    "rn.f32.s32": "static_cast<float>(a)", "rn.f32.u32": "static_cast<float>(a)", "rn.f32.u16": "static_cast<float>(a)",
    "rzi.u32.f32": "static_cast<std::uint32_t>(std::max(truncated(a), 0))", "f32.f16": "from_half(a)",
    "rn.f16.f32": "to_half(a)", "rn.bf16.f32": "to_bfloat(a)", "rp.f16.f32": "to_half_above(a)",
    "rp.bf16.f32": "to_bfloat_above(a)",
    "rn.f16x2.f32": "static_cast<std::uint32_t>(to_half(a)) << 16 | to_half(b)",
    "rn.bf16x2.f32": "static_cast<std::uint32_t>(to_bfloat(a)) << 16 | to_bfloat(b)",
}  # fmt: skip
SHORT = {"f16": "u16", "bf16": "u16", "f16x2": "u32", "bf16x2": "u32"}  # bits that a conversion reads or makes


class UnknownInstructionError(Exception):
    """An instruction or operand that the translator has no meaning for."""


def operands_of(text: str) -> list[str]:
    """Operands at the commas outside of braces and brackets."""
    return [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,])+", text)]


@dataclass
class Kernel:
    """One entry of the PTX file: its parameters with their bytes, its registers, and its statements in C++."""

    name: str
    parameters: dict[str, int] = field(default_factory=dict)
    registers: dict[str, tuple[str, int]] = field(default_factory=dict)  # prefix → type, number of them
    statements: list[str] = field(default_factory=list)

    def read(self, kind: str, operand: str) -> str:
        """An operand as a value of the type: a register's low bits, a place of the thread, or a number."""
        if operand in PLACES:
            return PLACES[operand]
        if match := re.fullmatch(r"0f([0-9A-Fa-f]{8})", operand):
            return f"as_float(0x{match[1]}u)"
        if re.fullmatch(r"-?\d+|0x[0-9A-Fa-f]+U?", operand):
            return f"static_cast<{TYPES[kind]}>({operand})"
        holds = self.kind_of(operand)
        if "f32" in (holds, kind):
            bits = operand[1:]
            return (
                bits
                if holds == kind
                else f"as_float({bits})"
                if kind == "f32"
                else f"static_cast<{TYPES[kind]}>(as_bits({bits}))"
            )
        return operand[1:] if TYPES[holds] == TYPES[kind] else f"static_cast<{TYPES[kind]}>({operand[1:]})"

    def write(self, operand: str, kind: str, value: str) -> str:
        """operand = value of the type; in a wider register signed ones are extended by their sign."""
        holds, target = self.kind_of(operand), operand[1:]
        if "f32" in (holds, kind) and holds != kind:
            return f"{target} = {'as_bits' if kind == 'f32' else 'as_float'}({value});"
        return f"{target} = static_cast<{TYPES[kind]}>({value});"

    def kind_of(self, operand: str) -> str:
        match = re.fullmatch(r"%([a-z]+)\d+", operand)
        if not match or match[1] not in self.registers:
            raise ValueError(f"operand {operand}")
        return self.registers[match[1]][0]

    def computed(self, target: str, kind: str, formula: str, *sources: tuple[str, str]) -> str:
        """target = formula over a, b, c, which have the type and value of the sources."""
        read = (
            f"const auto {name} = {self.read(of, source)};" for name, (of, source) in zip("abc", sources, strict=False)
        )
        return f"{' '.join(read)} {self.write(target, kind, formula)}"

    def add(self, text: str) -> None:
        """One statement of PTX, a label in front of it included."""
        text = " ".join(re.sub(r"^[\s{}]+", "", text).split())
        if label := re.match(r"\$(\w+):\s*", text):
            self.statements.append(f"{label[1]}:;")
            return self.add(text[label.end() :])
        if not text or text.startswith((".reg", ".pragma")):
            return None
        guard = re.match(r"@(!?)%(p\d+) ", text)
        bare = text[guard.end() :] if guard else text
        operation, _, rest = bare.partition(" ")
        try:
            meaning = self.meaning(operation.split("."), operands_of(rest))
        except (KeyError, ValueError) as error:
            raise UnknownInstructionError(f"{text} in {self.name}") from error
        condition = f"if ({guard[1]}{guard[2]}) " if guard else ""
        self.statements.append(f"{condition}{{ {meaning} }}")
        return None

    def meaning(self, parts: list[str], given: list[str]) -> str:
        operation, kind = parts[0], parts[-1]
        name = ".".join(parts[:-1])
        if operation == "ret":
            return "return;"
        if operation == "bra":
            return f"goto {given[0].removeprefix('$')};"
        if operation in ("ld", "st"):
            return self.memory(operation, [part for part in parts[1:-1] if part not in ("nc", "v2", "v4")], kind, given)
        if operation == "mov" and "{" in "".join(given):
            return self.pieces(kind, given)
        if operation in ("mov", "cvta"):
            return self.computed(given[0], kind, "a", (kind, given[1]))
        if operation == "cvt":
            return self.conversion(parts[1:], given)
        if operation == "setp" and len(parts) == 3:
            formula = "a != b" if parts[1] == "ne" and kind != "f32" else COMPARISONS[parts[1]]
            return self.computed(given[0], "pred", formula, (kind, given[1]), (kind, given[2]))
        if kind in PAIRS:
            compares = operation == "set" and parts[2:-1] == ["u32"]
            formula = f"{COMPARISONS[parts[1]]} ? 0xFFFF : 0" if compares else PAIRED[".".join(parts)]
            both = f"each_half<{PAIRS[kind]}>(a, b, [](float a, float b) -> std::uint16_t {{ return {formula}; }})"
            return self.computed(given[0], "u32", both, ("u32", given[1]), ("u32", given[2]))
        if name == "selp":
            return self.computed(given[0], kind, "c ? a : b", (kind, given[1]), (kind, given[2]), ("pred", given[3]))
        if name in ("shl", "shr"):
            return self.computed(given[0], kind, f"{name}(a, b)", (kind, given[1]), ("u32", given[2]))
        if name in ("mul.wide", "mad.wide"):
            wide = kind[0] + str(2 * int(kind[1:]))
            formula = f"static_cast<{TYPES[wide]}>(a) * b" + (" + c" if name == "mad.wide" else "")
            return self.computed(
                given[0], wide, formula, (kind, given[1]), (kind, given[2]), *((wide, g) for g in given[3:])
            )
        table = {"f32": FLOATS, "pred": PREDICATES}.get(kind, INTEGERS)
        return self.computed(given[0], kind, table[name], *((kind, source) for source in given[1:]))

    def memory(self, operation: str, space: list[str], kind: str, given: list[str]) -> str:
        where, registers = (given[1], given[0]) if operation == "ld" else (given[0], given[1])
        base, _, offset = where.strip("[] ").partition("+")
        each = operands_of(registers.strip("{} "))
        if (operation, space) == ("ld", ["param"]):
            index = list(self.parameters).index(base)
            step = int(kind[1:]) // 8
            return " ".join(
                self.write(one, kind, f"parameter<{TYPES[kind]}>(arguments[{index}], {int(offset or 0) + step * k})")
                for k, one in enumerate(each)
            )
        if space != ["global"]:
            raise ValueError(f"memory {space}")
        call = "load" if operation == "ld" else "store"
        address, stores = f"{self.read('u64', base)} + {int(offset or 0)}", str(call == "store").lower()
        pointer = f"pointer<{TYPES[kind]}, {len(each)}>({address}, {stores})"
        moved = (
            self.write(one, kind, f"at[{k}]") if call == "load" else f"at[{k}] = {self.read(kind, one)};"
            for k, one in enumerate(each)
        )
        return f"auto* const at = {pointer}; {' '.join(moved)}"

    def pieces(self, kind: str, given: list[str]) -> str:
        """A register from pieces, or into pieces; a piece without a register is dropped."""
        to, source = given
        each = operands_of((to if "{" in to else source).strip("{} "))
        bits = int(kind[1:]) // len(each)
        if "{" in to:
            return " ".join(
                f"{{ {self.computed(piece, f'b{bits}', f'a >> {bits * k}', (kind, source))} }}"
                for k, piece in enumerate(each)
                if piece.startswith("%")
            )
        parts = (f"static_cast<{TYPES[kind]}>({self.read(f'b{bits}', p)}) << {bits * k}" for k, p in enumerate(each))
        return self.write(to, kind, " | ".join(parts))

    def conversion(self, parts: list[str], given: list[str]) -> str:
        kinds = [SHORT.get(part, part) for part in parts[-2:]]
        if ".".join(parts) in CONVERSIONS:
            return self.computed(given[0], kinds[0], CONVERSIONS[".".join(parts)], *((kinds[1], g) for g in given[1:]))
        if len(parts) != 2 or "f32" in parts:
            raise ValueError("a conversion that is not between integers")
        return self.computed(given[0], kinds[0], "a", (kinds[1], given[1]))

    def written(self, number: int) -> str:
        """The function of one thread."""
        declared = (
            f"  {TYPES[kind]} "
            + ", ".join(
                f"{prefix}{k} = {POISON.get(kind, f'static_cast<{TYPES[kind]}>(kPoison)')}" for k in range(count)
            )
            + ";"
            for prefix, (kind, count) in self.registers.items()
        )
        head = (
            f"static void kernel_{number}([[maybe_unused]] void** arguments, [[maybe_unused]] const Thread& thread) {{"
        )
        return "\n".join((head, *declared, *(f"  {line}" for line in self.statements), "}"))


def kernels(ptx: str) -> Iterator[Kernel]:
    """The kernels of a PTX file. Raises UnknownInstructionError."""
    ptx = re.sub(r"//[^\n]*", "", ptx)
    if found := re.search(r"\.(func|shared|const|local)\b", ptx):
        raise UnknownInstructionError(f"the directive .{found[1]}")
    for name, parameters, body in re.findall(r"\.entry\s+(\w+)\((.*?)\)[^{]*\{(.*?)\n\}", ptx, re.DOTALL):
        kernel = Kernel(name)
        for bits, parameter, count in re.findall(r"\.[ubf](\d+)\s+(\w+)(?:\[(\d+)\])?", parameters):
            kernel.parameters[parameter] = int(bits) // 8 * int(count or 1)
        for kind, prefix, count in re.findall(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>;", body):
            kernel.registers[prefix] = kind, int(count)
        for statement in re.split(r";|(?<=:)\s*\n", body):
            kernel.add(statement)
        yield kernel


def translated(ptx: str) -> str:
    """The C++ of a PTX file: its kernels, and the table `kernels` of runtime.h."""
    found = list(kernels(ptx))
    if len(found) != ptx.count(".entry"):
        raise UnknownInstructionError("an entry that is written in another way")
    rows = (
        f'  {{"{kernel.name}", kernel_{k}, {{{", ".join(map(str, kernel.parameters.values()))}}}}},'
        for k, kernel in enumerate(found)
    )
    return "\n".join(
        (
            '#include "thread.h"\n\nnamespace emulated {\n',
            *(kernel.written(k) for k, kernel in enumerate(found)),
            "\nconst std::vector<Kernel>& kernels() {\n  static const std::vector<Kernel> all = {",
            *rows,
            "  };\n  return all;\n}\n}  // namespace emulated\n",
        )
    )


if __name__ == "__main__":
    sys.stdout.write(translated(Path(sys.argv[1]).read_text("utf-8")))
