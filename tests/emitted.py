"""Functions written with synthesis/lanes.py and vectors.py, compiled by LLVM alone: to be called, or only read."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir

HOST = binding.get_default_triple()
ARM = "aarch64-unknown-linux-gnu"

Emit = Callable[[ir.IRBuilder, Sequence[ir.Value]], None]

binding.initialize_all_targets()
binding.initialize_all_asmprinters()


class EmittedFunction:
    """A function of addresses, or of other integers of 64 bits, that gives nothing.

    Attributes:
        assembly: for the processor that it was compiled for.
    """

    def __init__(self, emit: Emit, n_arguments: int, features: str, triple: str = HOST) -> None:
        """Compile what `emit` writes, given a builder and the arguments, for a processor with LLVM's features."""
        target = binding.Target.from_triple(triple)
        self._machine = target.create_target_machine(cpu="generic", features=features, opt=3, jit=True)
        self._module = binding.parse_assembly(str(_module(emit, n_arguments, triple)))
        self._module.verify()
        self.assembly: str = self._machine.emit_assembly(self._module)
        self._n_arguments = n_arguments
        self._engine: Any = None

    def __call__(self, *arguments: int) -> None:
        """Run it on this machine."""
        if self._engine is None:
            self._engine = binding.create_mcjit_compiler(self._module, self._machine)
        address = self._engine.get_function_address("emitted")
        ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * self._n_arguments)(address)(*arguments)


def _module(emit: Emit, n_arguments: int, triple: str) -> ir.Module:
    module = ir.Module("emitted")
    module.triple = triple
    function_type = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * n_arguments)
    function = ir.Function(module, function_type, "emitted")
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder, function.args)
    builder.ret_void()
    return module


def host_features() -> str:
    """LLVM's names of what this machine's processor has and lacks."""
    return str(binding.get_host_cpu_features().flatten())
