"""A simulated service, its traffic and its rollout, judged by the real judge. Seeded and pure."""
