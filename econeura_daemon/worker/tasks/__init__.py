"""The six cron jobs of the workers service, and what each of them does."""
