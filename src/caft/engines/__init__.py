"""Writes replies with other programs than ours: vLLM, SGLang, or a server.

Prompts go in as our token ids, and a reply ends where ours would end. Whether an engine writes what
we write is measured before its replies count (evaluate/gate.py).
"""
