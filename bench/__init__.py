"""Speed and memory of the sidecar, judged by ratios to other proxies measured side by side in one run."""
