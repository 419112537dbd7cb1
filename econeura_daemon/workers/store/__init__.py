"""The SQL of the integration with workers."""
