"""Cron's SQL."""
