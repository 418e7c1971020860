"""A graphpass service from Python: Client and Job."""

from graphpass.client.client import Client, Job

__all__ = ["Client", "Job"]
