"""Asks paid endpoints of the OpenAI protocol; no reply is lost or bought twice.

In: Requests and an EndpointConfig. Out: TeacherReplies, and their rows in the ledger. Errors are
UserErrors, and every reply is kept: a cap is reached, the endpoint is down, the key is refused, the
ledger cannot be written.
"""
