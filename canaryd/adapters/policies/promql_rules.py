"""Checks the PromQL of a policy's queries by its syntax tree, before any Prometheus is asked. Three rules:

- **It returns one number.** A selector alone, or a function of one, returns a series for each pod: this works
  with one replica, and fails as soon as there are two. A query is refused here only if its syntax shows that
  it can return several series; others are refused when they are sent.
- **It is about this rollout.** A selector with neither the pods nor the namespace selects the whole cluster,
  including staging, and rolls back one service for the failures of another.
- **It returns the same when it is sent again.** A look is read live, and again after a restart and in a
  backtest, by range queries with other ends: `@ end()` would return another value then, and a negative offset
  would read what was not known yet.

`refusal` returns the first problem. While a query is parsed, its variables are replaced by STAND_INS.
"""

from collections.abc import Iterator

import promql_parser as ast

from canaryd.domain.policy.metrics import QUERY_VARIABLES

CANARY, STABLE, NAMESPACE = "canaryd-canary-pods", "canaryd-stable-pods", "canaryd-namespace"
# while a query is parsed
STAND_INS = dict(zip(QUERY_VARIABLES, (CANARY, STABLE, NAMESPACE, "15s"), strict=True))
SEVERAL = (
    "topk",
    "bottomk",
    "limitk",
    "limit_ratio",
    "count_values",
)  # aggregations that keep several series, also without `by`
SET_OPERATORS = ("and", "or", "unless")
ABSENT = ("absent", "absent_over_time")  # one series, whatever they are asked of
WANTED_SCOPE = 'pod=~"$canary_pods", pod=~"$stable_pods" or namespace="$namespace"'


def refusal(promql: str, compared: bool = False) -> str:
    """The reason why a policy's query cannot be used; "" if it can. compared: whether the versions' values
    are compared."""
    filled = promql
    for name, stand_in in STAND_INS.items():
        filled = filled.replace(f"${name}", stand_in)
    try:
        tree = ast.parse(filled)
    except ValueError as error:
        return f"must be PromQL, but is not: {_with_variables(' '.join(str(error).split()))}"
    return _no_number(tree) or _unsteady(tree) or _unscoped(tree, compared)


def _no_number(tree: ast.Expr) -> str:
    if isinstance(tree, ast.MatrixSelector | ast.SubqueryExpr):
        return "must return one number, but is a range vector: put a function such as rate(...) around it"
    if isinstance(tree, ast.StringLiteral):
        return "must return one number, but is text"
    if _many(tree):
        return (
            "must return one number, but may return one for each series: aggregate it, as in max(...): "
            f"{_shown(tree)}"
        )
    return ""


def _many(tree: ast.Expr) -> bool:
    """Whether an expression can return several series, as far as its syntax shows."""
    if isinstance(tree, ast.ParenExpr | ast.UnaryExpr):
        return _many(tree.expr)
    if isinstance(tree, ast.VectorSelector | ast.MatrixSelector):
        return True
    if isinstance(tree, ast.AggregateExpr):
        parted = tree.modifier is not None and (
            tree.modifier.type == ast.AggModifierType.Without or bool(tree.modifier.labels)
        )
        return parted or (str(tree.op) in SEVERAL and not _is_one(tree.param))
    if isinstance(tree, ast.Call):
        return _call_is_many(tree)
    return isinstance(tree, ast.BinaryExpr) and _binary_is_many(tree)


def _call_is_many(call: ast.Call) -> bool:
    if call.func.return_type == ast.ValueType.Scalar or call.func.name in ABSENT:
        return False
    if call.func.name in ("histogram_quantile", "histogram_quantiles"):
        return _many_but_for_le(call.args[-1])
    # `vector(1)` and the like have no vector among their arguments.
    return any(
        _many(argument.expr if isinstance(argument, ast.SubqueryExpr) else argument) for argument in call.args
    )


def _is_one(param: object) -> bool:
    """Whether an aggregation's parameter asks for a single series, as in topk(1, ...)."""
    return isinstance(param, ast.NumberLiteral) and param.val == 1


def _many_but_for_le(tree: ast.Expr) -> bool:
    """Whether buckets can have several series apart from their label `le`, which a quantile removes."""
    while isinstance(tree, ast.ParenExpr):
        tree = tree.expr
    if (
        isinstance(tree, ast.AggregateExpr)
        and tree.modifier is not None
        and tree.modifier.type == ast.AggModifierType.By
    ):
        return (
            str(tree.op) in SEVERAL or set(tree.modifier.labels) > {"le"} or "le" not in tree.modifier.labels
        )
    return _many(tree)


def _binary_is_many(tree: ast.BinaryExpr) -> bool:
    if str(tree.op) in SET_OPERATORS:
        return _many(tree.lhs) or (str(tree.op) == "or" and _many(tree.rhs))
    sides = [_many(side) for side in (tree.lhs, tree.rhs)]
    scalars = [_is_scalar(side) for side in (tree.lhs, tree.rhs)]
    if any(scalars):
        return any(sides)
    return all(sides)  # a single series is matched by at most one, but for group_left and group_right


def _is_scalar(tree: ast.Expr) -> bool:
    if isinstance(tree, ast.ParenExpr | ast.UnaryExpr):
        return _is_scalar(tree.expr)
    if isinstance(tree, ast.BinaryExpr):
        return _is_scalar(tree.lhs) and _is_scalar(tree.rhs)
    return isinstance(tree, ast.NumberLiteral) or (
        isinstance(tree, ast.Call) and tree.func.return_type == ast.ValueType.Scalar
    )


def _unsteady(tree: ast.Expr) -> str:
    for node in _nodes(tree):
        if isinstance(node, ast.VectorSelector | ast.SubqueryExpr):
            if node.at is not None:
                return f"must be evaluated at the end of each look, without @, but has it: {_shown(node)}"
            if node.offset is not None and node.offset.total_seconds() < 0:
                return f"must not read beyond the end of the look, but has a negative offset: {_shown(node)}"
    return ""


def _unscoped(tree: ast.Expr, compared: bool) -> str:
    selectors = [node for node in _nodes(tree) if isinstance(node, ast.VectorSelector)]
    if not selectors:
        return "must be about this rollout, but selects no series"
    for selector in selectors:
        if not all(
            any(_limits(matcher) for matcher in alternative) for alternative in _alternatives(selector)
        ):
            return (
                f"must be about this rollout in every selector ({WANTED_SCOPE}), but selects the whole "
                f"cluster: {_shown(selector)}"
            )
    matchers = [
        matcher
        for selector in selectors
        for alternative in _alternatives(selector)
        for matcher in alternative
    ]
    if compared and not any(_is_positive(matcher) and CANARY in matcher.value for matcher in matchers):
        return (
            "must select the canary's pods (pod=~\"$canary_pods\"), which are replaced by stable's for the "
            "comparison, but does not"
        )
    return ""


def _alternatives(selector: ast.VectorSelector) -> list[list[ast.Matcher]]:
    """The groups of matchers of a selector; a series must match all of one group."""
    groups = selector.matchers.or_matchers or [[]]
    return [[*selector.matchers.matchers, *group] for group in groups]


def _limits(matcher: ast.Matcher) -> bool:
    """Whether a matcher selects only the rollout's pods, its namespace, or one given namespace."""
    if not _is_positive(matcher):
        return False
    if any(variable in matcher.value for variable in (CANARY, STABLE, NAMESPACE)):
        return True
    names_one = matcher.op == ast.MatchOp.Equal and matcher.value != ""
    return names_one and (matcher.name == "namespace" or matcher.name.endswith("_namespace"))


def _is_positive(matcher: ast.Matcher) -> bool:
    # Not ==: the parser's operators that carry a pattern are equal to none.
    return str(matcher.op) in (str(ast.MatchOp.Equal), str(ast.MatchOp.Re))


def _nodes(tree: ast.Expr) -> Iterator[ast.Expr]:
    found: list[ast.Expr] = []
    ast.walk(tree, found.append)
    yield from found


def _shown(tree: ast.Expr) -> str:
    """A part of the query, nearly as it was written."""
    return _with_variables(str(tree).replace("{}", ""))


def _with_variables(text: str) -> str:
    for name in QUERY_VARIABLES[:3]:
        text = text.replace(STAND_INS[name], f"${name}")
    return text
