"""Prompts, answers and the parsing of replies: pure text, no tokenizer, no disk."""
