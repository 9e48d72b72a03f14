"""Image generation in one to four steps: train it, distil it, measure it, serve it."""
