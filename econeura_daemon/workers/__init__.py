"""The integration with workers services: e-mail processing, its bulk jobs, and cron management through the mesh."""
