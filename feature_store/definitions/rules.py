"""The NumPy habits that a feature may not have, because one row and a table would differ."""

from __future__ import annotations

import dis
from collections.abc import Callable

from feature_store.errors import DefinitionError

_OPERATORS = {"**": "write x * x or np.sqrt(x)", "@": "write a + b + c"}
_REDUCTIONS = {"sum", "mean", "std", "var", "prod", "dot", "matmul", "einsum", "cumsum", "median"}
_TRANSCENDENTAL = {
    *("log", "log2", "log10", "log1p", "exp", "exp2", "expm1", "cbrt", "power", "float_power"),
    *("sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan", "arctan2", "logaddexp", "hypot"),
}


def refuse_unrepeatable(function: Callable[..., object]) -> None:
    """Raise when a feature's function uses something that is not the same to the bit everywhere.

    Reductions change with the number of rows, ``**`` with Python scalars; float32
    transcendental functions change with the processor. Only the function's own code is looked
    at; the property tests look at what it computes.

    Raises
    ------
    DefinitionError
        Naming the function, the habit and what to write in its place.
    """
    for instruction in dis.get_instructions(function):
        name = str(instruction.argval)
        if instruction.opname == "BINARY_OP":
            operator = instruction.argrepr.rstrip("=")
            if operator in _OPERATORS:
                raise _refusal(function, f"'{operator}'", _OPERATORS[operator])
        elif instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"} and name in _REDUCTIONS:
            raise _refusal(function, f"'{name}'", "combine columns with + and *")
        elif instruction.opname in {"LOAD_ATTR", "LOAD_METHOD"} and name in _TRANSCENDENTAL:
            raise _refusal(
                function, f"'{name}'", "call the function of feature_store.definitions.columns"
            )


def _refusal(function: Callable[..., object], habit: str, remedy: str) -> DefinitionError:
    return DefinitionError(
        f"Feature '{function.__name__}' uses {habit}, whose result depends on the number of rows "
        f"or on the processor; {remedy} instead."
    )
