"""A rollout and its verdicts in sentences and in JSON. Pure; nothing here decides."""
