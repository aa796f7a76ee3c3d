"""Prompts, answers and the parsing of replies. Pure text: no tokenizer, no disk."""
