"""The report: findings, caveats, sections, the HTML page, and tables for papers."""
