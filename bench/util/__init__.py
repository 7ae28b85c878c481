"""What every package uses: files, progress bars, memory, the cache, text that meets Markdown."""
