"""A small Kubernetes API over HTTP, and the Deployment controller behind it."""
