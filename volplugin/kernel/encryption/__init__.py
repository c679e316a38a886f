"""Trees of files that nobody reads without a key, by the kernel's fscrypt."""
