"""What every package uses: files, progress bars, memory, the cache, and text in Markdown."""
