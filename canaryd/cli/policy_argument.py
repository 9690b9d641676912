"""How commands read the policies that an argument names."""

from collections.abc import Sequence
from pathlib import Path

from canaryd.adapters.policies.policy_files import load
from canaryd.cli.group import Failure
from canaryd.domain.policy.policy import Policy
from canaryd.domain.policy.validation import InvalidPolicy


def policies_of(path: Path) -> Sequence[Policy]:
    """The policies of a file or a directory. Raises InvalidPolicy with every problem, Failure where there is
    none."""
    loaded = load(path)
    if loaded.problems:
        raise InvalidPolicy(loaded.problems)
    if not loaded.policies:
        raise Failure(f"{path}: at least one policy was wanted, but there is none")
    return loaded.policies
