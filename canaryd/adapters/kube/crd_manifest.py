"""The CustomResourceDefinition of CanaryRollout: the Helm chart's file, which the package carries too."""

from pathlib import Path

# In a checkout a link to the chart's own file, which the wheel and the image have as a file.
PATH = Path(__file__).with_name("canaryrollouts.yaml")


def crd_manifest() -> str:
    """The YAML that `kubectl apply` takes. Raises OSError where the installation is damaged."""
    return PATH.read_text(encoding="utf-8")
