"""Records of earlier releases, held against what is written of them now."""

from typing import Any


def without_later_keys(written: Any, before: Any) -> Any:
    """What is written now without the keys that the earlier release did not know, in the order in which it is
    written: whatever that release wrote must be in it unchanged."""
    if isinstance(written, dict) and isinstance(before, dict):
        return {
            key: without_later_keys(entry, before[key]) for key, entry in written.items() if key in before
        }
    if isinstance(written, list) and isinstance(before, list) and len(written) == len(before):
        return [without_later_keys(entry, old) for entry, old in zip(written, before, strict=True)]
    return written
