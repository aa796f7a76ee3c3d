"""Paid teachers: asking an OpenAI-protocol endpoint so that no reply is lost or bought twice.

In: Requests and an EndpointConfig. Out: TeacherReplies, and their rows in the ledger. What can go
wrong ends in a UserError that keeps every reply: a cap is reached, the endpoint is down, the key
is refused, the ledger cannot be written.
"""
