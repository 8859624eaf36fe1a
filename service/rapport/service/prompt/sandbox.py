"""A jinja2 sandbox in which every template terminates and values cannot grow without bound.

Templates come with models and are not trusted. jinja2's sandbox denies access to internals.
This one also charges the render budget for each iteration of a loop, each call of a macro and
each value that is made. Values that may be large are charged before they are made.
"""

from __future__ import annotations

from types import BuiltinMethodType
from typing import Any

from jinja2 import Template, TemplateSyntaxError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from rapport.service.prompt import template_filters as filters
from rapport.service.prompt.render_budget import (
    RenderBudgetExceededError,
    charge,
    charge_text,
    own_size,
    spend,
)

MAX_SOURCE_CHARS = 1 << 20
SAFE_METHODS = frozenset(
    [
        "capitalize",
        "casefold",
        "copy",
        "count",
        "endswith",
        "find",
        "get",
        "index",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "islower",
        "isnumeric",
        "isspace",
        "istitle",
        "isupper",
        "items",
        "join",
        "keys",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rindex",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "upper",
        "values",
    ]
)
# The names of filters that `ChargingTransformer` inserts.
STEP, CHARGE, CONCATENATE = "_step", "_charged", "_concatenated"


class GenerationTag(Extension):
    """`{% generation %}` marks what the assistant says, for training. Its body is rendered."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class Sandbox(ImmutableSandboxedEnvironment):
    """jinja2's environment without what makes large values of small ones."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, GenerationTag],
            finalize=_finalize,
            # Otherwise constant expressions would be computed when a template is compiled.
            optimized=False,
        )
        self.filters = {
            **filters.ALL,
            STEP: spend,
            CHARGE: charge,
            CONCATENATE: filters.concatenate,
        }
        self.globals["dict"] = lambda **items: charge(items)
        del self.globals["lipsum"]

    def read(self, source: str) -> Template:
        """Compiles the source of a template.

        Raises:
            ValueError: it is too long, or not a valid template.
        """
        if len(source) > MAX_SOURCE_CHARS:
            raise ValueError(f"the chat template has over {MAX_SOURCE_CHARS} characters")
        try:
            tree: nodes.Template = ChargingTransformer().visit(self.parse(source))
            tree.set_environment(self)
            code = self.compile(tree)
        # The parsers of jinja2 and Python raise many kinds of errors for invalid templates.
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"the chat template cannot be used: {reason}") from error
        return Template.from_code(self, code, self.make_globals(None))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        known = attr in SAFE_METHODS or not isinstance(value, BuiltinMethodType)
        return known and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:  # noqa: ARG002 - jinja2's
        """Disables `str.format`: twelve characters of a format can make a text of a billion."""
        return

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            result = left + right
            spend(own_size(result))
            return result
        if operator == "%" and isinstance(left, str):
            raise RenderBudgetExceededError("it formats text with '%'")
        if operator == "*":
            filters.check_product(left, right)
        if operator == "**":
            filters.check_power(left, right)
        result = super().call_binop(context, operator, left, right)
        spend(own_size(result))
        return result

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        spend()
        owner = getattr(function, "__self__", None)
        if isinstance(owner, str) and function.__name__ in ("replace", "join"):
            name = function.__name__
            function = filters.replace if name == "replace" else filters.join_method
            args = (owner, *args)
        result = super().call(context, function, *args, **kwargs)
        spend(own_size(result))
        return result


class ChargingTransformer(NodeTransformer):
    """Inserts charges where jinja2 does not call methods of the environment."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - named by jinja2
        return self._with_step(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._with_step(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._with_step(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802
        return self._with_step(node)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._with_charge(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._with_charge(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._with_charge(node) if node.ctx == "load" else self.generic_visit(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        is_slice = isinstance(node.arg, nodes.Slice)
        return self._with_charge(node) if is_slice else self.generic_visit(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), CONCATENATE)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802
        if node.name in ("varargs", "kwargs"):
            raise TemplateSyntaxError(f"macros have no {node.name}", node.lineno)
        return node

    def _with_step(self, node: Any) -> nodes.Node:
        """Inserts a charge for one step and for the literal text at the start of the body."""
        text = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        step = _filtered(nodes.Const(1 + text, lineno=node.lineno), STEP)
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node  # type: ignore[no-any-return]

    def _with_charge(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, CHARGE)


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


@pass_context
def _finalize(_context: Context, value: Any) -> Any:
    # `pass_context` keeps jinja2 from calling this when a template is compiled.
    return charge_text(value)
