"""Checks regular expressions as Envoy reads them: RE2, matched against the whole value.

Python's `re` is another dialect, so an expression is read token by token. What RE2 lacks is named in the
refusal. What only RE2 has is translated into Python's syntax, so that `re` finds the remaining errors, such
as an unclosed parenthesis. If an expression passes here and RE2 refuses it, Istio refuses the route when it
is written, and canaryd reports that then.
"""

import re
from collections.abc import Iterator

MOST_REPEATS = 1000  # RE2's limit of {n}, {n,m}

_LACKS = (
    (r"\(\?<?[=!]", "lookaround"),
    (r"\(\?>", "an atomic group"),
    (r"\(\?\(", "a conditional"),
    (r"\(\?#", "a comment"),
    (r"\(\?P=\w*\)?|\\k[<{']|\\[1-9]", "a backreference"),
    (r"(?:[*+?]|\{\d+(?:,\d*)?\})\+", "a possessive quantifier"),
    (r"\\[ZGKRXhHeNuU]", "the escape {}"),
)
_ALONE = (  # what RE2 has and Python has not, and what stands for it
    (r"\\z", r"\\Z"),
    (r"\\C", "."),
    (r"\\[pP](?:\{\^?\w+\}|\w)", r"\\w"),
    (r"\\x\{[0-9A-Fa-f]+\}", "x"),
    (r"\(\?<", "(?P<"),
    (r"\(\?[imsU]*U[imsU]*(?:-[imsU]+)?\)|\(\?[imsU]+(?:-[imsU]+)?\)", ""),
    (r"\(\?[imsU]*(?:-[imsU]+)?:", "(?:"),
)
_QUOTED = re.compile(r"\\Q.*?(?:\\E|$)", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]", re.DOTALL)
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")


def refused(expression: str) -> str:
    """The reason why RE2 does not accept the expression; "" if no error is found."""
    python = ""
    for token in _tokens(expression):
        for pattern, what in _LACKS:
            if re.fullmatch(pattern, token):
                return f"{what.format(token)} ({token})"
        python += _in_python(token)
        many = _REPEAT.match(token)
        if many and max(int(times) for times in many.groups() if times) > MOST_REPEATS:
            return f"more than {MOST_REPEATS:,} repeats ({token})"
    try:
        re.compile(python)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return ""


def _tokens(expression: str) -> Iterator[str]:
    """Splits an expression into the tokens of `_LACKS` and `_ALONE`, whole quoted texts and classes, and
    single characters; an escape is never split."""
    whole = re.compile(
        "|".join(pattern for pattern, _ in (*_LACKS, *_ALONE)) + r"|\{\d+(?:,\d*)?\}|\\.", re.DOTALL
    )
    at = 0
    while at < len(expression):
        found = next(
            (match for pattern in (_QUOTED, _CLASS, whole) if (match := pattern.match(expression, at))), None
        )
        yield found[0] if found else expression[at]
        at = found.end() if found else at + 1


def _in_python(token: str) -> str:
    if _QUOTED.fullmatch(token):
        return re.escape(token.removeprefix("\\Q").removesuffix("\\E"))
    if _CLASS.fullmatch(token):
        inside = re.sub(r"\[:\^?\w+:\]|\\[pP](?:\{\^?\w+\}|\w)", r"\\w", token[1:])
        return "[" + re.sub(r"(?<!\\)\[", r"\\[", inside)
    return next(
        (re.sub(pattern, stands, token) for pattern, stands in _ALONE if re.fullmatch(pattern, token)), token
    )
