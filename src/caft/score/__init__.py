"""Measures how hard each question is for this model. Questions in, AnswerScores out.

The student answers every question with one token; one forward pass yields every estimate, with
`answer_entropy` (nats, full vocabulary) first among them. Goes wrong: an answer label that is
several tokens, a prompt longer than the context, a template that refuses the turns (UserError,
before the model loads); logits that are not finite (UserError naming the question).
"""
