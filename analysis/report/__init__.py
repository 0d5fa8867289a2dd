"""The report: findings, sections and the page."""
