"""From numbers to Markdown and pictures."""
