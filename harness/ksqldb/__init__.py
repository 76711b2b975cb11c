"""Latency tables: the REST client of ksqlDB, and the engine that stands in where no server is."""

from harness.ksqldb.client import KsqlClient
from harness.ksqldb.table import Table

__all__ = ["KsqlClient", "Table"]
