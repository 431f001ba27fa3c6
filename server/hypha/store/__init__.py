"""Records that outlive a process. Nothing outside knows where they are kept."""
