"""HTTP: OpenAI's Images API and the live wire."""
