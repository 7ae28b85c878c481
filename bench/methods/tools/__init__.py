"""Other projects' quantizers as methods, one file each. `pip install -e '.[tools]'` installs the projects."""
