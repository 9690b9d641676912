"""How an object of Kubernetes is told apart from all others of its kind."""

NamespacedName = tuple[str, str]  # its namespace, and its name in that
