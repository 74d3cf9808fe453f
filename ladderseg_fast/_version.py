"""The one place that holds the version: the metadata and the compiled core take it from here."""

__version__ = "0.2.0"
