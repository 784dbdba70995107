"""What pyproject.toml cannot say: the folder configs/ of the checkout is jitune/configs once it is installed."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["jitune*"]), "jitune.configs"],
    package_dir={"jitune.configs": "configs"},
)
