"""Reports on campaigns: one self-contained HTML file, and the same tables as text."""
